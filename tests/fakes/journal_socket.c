/* Sends what libsystemd means for the journal to the socket named by JOURNAL_SOCKET instead (LD_PRELOAD).
   The library has the journal's address built in, and a test must not open that of the host. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    ssize_t (*real)(int, const struct msghdr *, int) =
        (ssize_t (*)(int, const struct msghdr *, int)) dlsym(RTLD_NEXT, "sendmsg");
    const struct sockaddr_un *to = message->msg_name;
    const char *elsewhere = getenv("JOURNAL_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct msghdr changed = *message;

    if (!elsewhere || !to || strcmp(to->sun_path, "/run/systemd/journal/socket") != 0)
        return real(descriptor, message, flags);
    strncpy(address.sun_path, elsewhere, sizeof address.sun_path - 1);
    changed.msg_name = &address;
    changed.msg_namelen = sizeof address;
    return real(descriptor, &changed, flags);
}
