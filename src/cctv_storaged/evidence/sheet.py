"""The package's readable sheet: one page without scripts or anything from elsewhere, fit for paper. Pure.

What it says is the manifest's, which is what binds. Every text is escaped, however hostile its author.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from cctv_storaged.clock import rfc3339
from cctv_storaged.evidence.manifest import FileRole, Manifest, ManifestCamera, ManifestFile, ManifestSpan
from cctv_storaged.logs.lines import one_line

MOST_ROWS = 5000
"""Files listed for one camera; the manifest has them all."""
_NOTHING = "–"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 75rem;
  margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #bbb; padding: .3rem .5rem; text-align: left; vertical-align: top; }
thead { display: table-header-group; } tr { break-inside: avoid; } th { background: #f0f0f0; }
table.facts th { width: 14rem; }
code { font: .82em/1.35 ui-monospace, monospace; overflow-wrap: anywhere; }
code.time { white-space: nowrap; }
.warn { border: 2px solid #a00; padding: .6rem .9rem; margin: 1rem 0; } .warn strong { color: #a00; }
.sub { color: #444; }
@media print { body { margin: 0; padding: 0; max-width: none; font-size: 9.5pt; } h2 { break-after: avoid; } }
"""

README_TEXT = """\
This is an evidence package of cctv-storaged.

sheet.html         what it holds, for reading and printing
originals/         the recorder's files, bit for bit: the masters
remuxed/           in their place, where only a VMS held the footage: its coded pictures, read back
clips/             working copies, made from the originals so that any player shows them
manifest.json      every file with its SHA-256; times, gaps, who asked and why, which host and clock
manifest.json.sig  Ed25519 signature over the bytes of manifest.json
public-key.pem     the key that the signature is of

To check it, on any computer with cctv-storaged, without a network:

    cctv-storaged verify PACKAGE.zip --key FINGERPRINT

or, in the unpacked folder, with OpenSSL 3 and nothing else of ours:

    openssl pkeyutl -verify -rawin -pubin -inkey public-key.pem -sigfile manifest.json.sig -in manifest.json
    openssl pkey -pubin -in public-key.pem -outform DER | sha256sum     # the key's fingerprint
    sha256sum FILE                                                      # compare with manifest.json

The signature shows who made the package only if the fingerprint is known from elsewhere: ask the operator of
the recording host for it (GET /api/v1/storage/signing-key), not the package.
"""


def sheet(manifest: Manifest) -> str:
    """The page. The manifest is that of the files listed on it: sheet and key are not among them."""
    return "\n".join(_page(manifest))


def _page(manifest: Manifest) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8"/>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}"/>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    title = manifest.request.case_id or str(manifest.export_id)
    yield f"<title>Evidence {escape(one_line(title))}</title>"
    yield f"<style>{_STYLE}</style></head><body>"
    yield "<h1>Evidence package</h1>"
    yield '<p class="sub">This page is for reading. What binds is the signed <code>manifest.json</code>.</p>'
    yield from _warnings(manifest)
    yield from _request(manifest)
    yield from _host(manifest)
    for camera in manifest.cameras:
        yield from _camera(manifest, camera)
    yield from _checking(manifest)
    yield "</body></html>\n"


def _warnings(manifest: Manifest) -> Iterator[str]:
    differing = manifest.of_role(FileRole.DIFFERING)
    if differing:
        yield (
            f'<p class="warn"><strong>Not what was recorded: {len(differing)} of the files.</strong> Their'
            " bytes differ from those the host registered. They are marked below, and are no masters.</p>"
        )
    remuxed = manifest.of_role(FileRole.REMUXED)
    if remuxed:
        yield (
            f'<p class="warn"><strong>Read back from a VMS: {len(remuxed)} of the files.</strong> Only the'
            " VMS held that footage any more. They have the coded pictures as it gave them, in files with"
            " checksums of their own and without sound. They are marked below, and are not the"
            " recorder&#x27;s bytes.</p>"
        )
    if manifest.host.clock.synchronized is False:
        yield (
            '<p class="warn"><strong>The host&#x27;s clock was not synchronized</strong> when the package was'
            " made: compare its times with a known clock.</p>"
        )


def _request(manifest: Manifest) -> Iterator[str]:
    request = manifest.request
    yield "<h2>What was asked for</h2>"
    yield from _facts(
        ("Case", _text(request.case_id)),
        ("Reason", "<br/>".join(map(_text, (request.reason or "").splitlines()))),
        ("Asked for by", _text(request.created_by)),
        ("Asked for at", f"<code>{rfc3339(request.requested_at)}</code>"),
        ("From – to", _both_times(request.span)),
        ("Cameras", ", ".join(_text(camera.name) for camera in manifest.cameras)),
        ("Working copies", _text(request.format) + (", cut to the frame" if request.precise else "")),
    )


def _host(manifest: Manifest) -> Iterator[str]:
    host = manifest.host
    yield "<h2>What made this package</h2>"
    yield from _facts(
        ("Host", _text(host.id)),
        (
            "Made at",
            f"<code>{rfc3339(manifest.created_at)}</code> = <code>{manifest.created_at_local}</code>",
        ),
        ("Software", _text(f"{host.software}, ffmpeg {host.ffmpeg or _NOTHING}")),
        ("Clock", _text(_clock(manifest))),
        ("Local times are of", _text(host.time_zone)),
        ("Export", f"<code>{manifest.export_id}</code>"),
        ("Signed with key", f"<code>{_text(manifest.key)}</code>"),
    )


def _clock(manifest: Manifest) -> str:
    clock = manifest.host.clock
    words = {True: "synchronized", False: "NOT synchronized", None: "not known whether it is synchronized"}
    parts = [words[clock.synchronized]]
    if clock.offset_us is not None:
        parts.append(f"still {clock.offset_us / 1e6:+.6f} s to correct")
    if clock.max_error_us is not None:
        parts.append(f"at most {clock.max_error_us / 1e6:.6f} s wrong by its own estimate")
    if clock.store_offset_ms is not None:
        parts.append(f"the object store's clock is {clock.store_offset_ms / 1e3:+.3f} s from it")
    return "; ".join(parts)


def _camera(manifest: Manifest, camera: ManifestCamera) -> Iterator[str]:
    yield f"<h2>Camera {_text(camera.name)}</h2>"
    yield f'<p class="sub"><code>{camera.id}</code></p>'
    yield "<h3>Missing of the time asked for</h3>"
    if camera.gaps:
        yield from _table(
            ("From – to", "Cause", "Detail"),
            ((_both_times(gap.span), _text(gap.cause), _text(gap.detail)) for gap in camera.gaps),
            len(camera.gaps),
        )
    else:
        yield "<p>Nothing.</p>"
    mine = [file for file in manifest.files if file.camera_id == camera.id]
    masters = (FileRole.ORIGINAL, FileRole.DIFFERING, FileRole.REMUXED)
    originals = [file for file in mine if file.role in masters]
    copies = [file for file in mine if file.role is FileRole.WORKING_COPY]
    yield "<h3>Originals: the recorder&#x27;s bytes, untouched</h3>"
    columns = ("File and SHA-256", "From – to", "Bytes", "Codec", "Notes")
    yield from _table(columns, map(_original, originals), len(originals))
    yield "<h3>Working copies: made from the originals, for any player</h3>"
    columns = ("File and SHA-256", "From – to", "Bytes", "Codec", "Made by")
    yield from _table(columns, map(_copy, copies), len(copies))


def _original(file: ManifestFile) -> Sequence[str]:
    notes = [_text(flag) for flag in file.flags]
    if file.source is not None:
        notes.append(f"read from {_text(file.source.read_from)}: <code>{_text(file.source.path)}</code>")
        if file.source.recorded_sha256 is None and file.role is not FileRole.REMUXED:
            notes.append("its SHA-256 was first taken for this package")
    recorded = file.source.recorded_sha256 if file.source is not None else None
    if file.role is FileRole.REMUXED:
        notes.insert(0, f"<strong>read back from a VMS</strong>; recorded was <code>{_text(recorded)}</code>")
    if file.role is FileRole.DIFFERING:
        notes.insert(0, f"<strong>NOT as recorded</strong>, which was <code>{_text(recorded)}</code>")
    return (*_file(file), "<br/>".join(notes) or _NOTHING)


def _copy(file: ManifestFile) -> Sequence[str]:
    ways = {"stream_copy": "copying, without decoding", "edges_reencoded": "copying; both edges encoded anew"}
    return (*_file(file), ways.get(file.made_by or "", _NOTHING))


def _file(file: ManifestFile) -> tuple[str, ...]:
    name = f"<code>{_text(file.path)}</code><br/><code>{file.sha256}</code>"
    when = _NOTHING if file.span is None else _both_times(file.span)
    return name, when, str(file.size_bytes), _text(file.codec)


def _checking(manifest: Manifest) -> Iterator[str]:
    yield "<h2>How to check this package</h2>"
    yield "<p>With cctv-storaged on any computer, without a network:</p>"
    yield f"<p><code>cctv-storaged verify PACKAGE.zip --key {_text(manifest.key)}</code></p>"
    yield "<p>Or, unpacked, with OpenSSL 3 (each file&#x27;s SHA-256 stands in manifest.json and above):</p>"
    yield (
        "<p><code>openssl pkeyutl -verify -rawin -pubin -inkey public-key.pem -sigfile manifest.json.sig"
        " -in manifest.json</code><br/><code>sha256sum FILE</code></p>"
    )
    yield (
        "<p>Whoever changes the package could sign it anew with another key and change this page. Have the"
        " fingerprint of the host&#x27;s key told by its operator, not by the package.</p>"
    )


def _facts(*rows: tuple[str, str]) -> Iterator[str]:
    yield '<table class="facts"><tbody>'
    for name, value in rows:
        yield f'<tr><th scope="row">{name}</th><td>{value or _NOTHING}</td></tr>'
    yield "</tbody></table>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], count: int) -> Iterator[str]:
    if not count:
        yield "<p>None.</p>"
        return
    heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    for row, _ in zip(rows, range(MOST_ROWS), strict=False):
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</tbody></table>"
    if count > MOST_ROWS:
        yield f"<p>And {count - MOST_ROWS} more: see manifest.json.</p>"


def _both_times(span: ManifestSpan) -> str:
    utc = _period(rfc3339(span.start), rfc3339(span.end))
    return f"{utc}<br/>{_period(span.local_start, span.local_end)}"


def _period(start: str, end: str) -> str:
    return f'<code class="time">{escape(start)}</code> – <code class="time">{escape(end)}</code>'


def _text(text: str | None) -> str:
    """Text of anybody's: escaped, what is invisible shown, and kept from turning its surroundings around."""
    return f"<bdi>{escape(one_line(text))}</bdi>" if text else _NOTHING
