"""What published material leaves open (D), or was only inferred (C): a switch each. The client must pass
with either setting. Defaults are what seems most likely. Marks and sections are those of the reference paper.
"""

from dataclasses import dataclass
from typing import Literal

from tests.fakes.xprotect.settable import Settable

Wrapper = Literal["result", "data", "bare"]
Created = Literal[200, 201]


@dataclass(slots=True, kw_only=True)
class Assumptions(Settable):
    """Read at every request."""

    # -- answers of REST
    paths_case_sensitive: bool = False
    """C, 1.1: IIS does not care. True: only the spellings of the samples (`/api`, `/API`, …) are known."""
    error_wrapped: bool = True
    """1.5: `{"error": {…}}`, or the same object bare; both are published."""
    http_code_string: bool = False
    """1.5: `httpCode` is "400" or 400; both are published."""
    booleans_as_strings: bool = False
    """1.5: "True" and "False", as before 2022 R2."""
    time_form: Literal["z3", "z7", "z0", "offset"] = "z7"
    """1.5: Z with 3, 7 or no digits of fraction; +02:00 with 7."""
    bad_password_status: Literal[400, 401] = 400
    """C, 1.2."""
    gateway_gives_tokens: bool = True
    """1.2: whether `/API/IDP/connect/token` is there; `/IDP/connect/token` always is."""
    size_limit: int | None = None
    """1.5: whether a page is ever shorter than asked for: most objects in one answer."""
    unpaged_limit: int | None = None
    """1.5: whether a collection asked for without `size` comes whole: most objects in it."""
    delete_status: Literal[200, 204] = 200
    """C: of bookmarks and locks."""
    soap_prefixed: bool = False
    """C, 3.1: names in SOAP answers carry a prefix, or stand in the default name space."""
    id_in_upper_case: bool = False
    """C, 1.4: GUIDs are in lower case in the samples."""
    # -- sequences
    rest_sequences: Literal["yes", "400", "404"] = "yes"
    """D, 1.6: since when REST has `GetSequences`; what its absence answers."""
    sequences_status: Created = 200
    """D, 7.1."""
    sequences_wrapper: Wrapper = "result"
    """C, 3.2."""
    sequences_clipped: bool = False
    """D, 3.2: whether a sequence that overlaps the window is clipped to it. REST and SOAP."""
    sequences_gap_ms: int = 3000
    """D, 7.3: a longer pause ends a sequence."""
    sequences_sorted: bool = True
    """C, 3.2: earliest first. False: by REST those nearest to the time asked for come first."""
    sequences_limit: int | None = None
    """D: most sequences in one answer, whatever was asked for."""
    # -- retrieval
    retrieve_status: Created = 200
    """D, 2.2."""
    retrieve_wrapper: Wrapper = "result"
    """A by the Config API's prose, 1.5; never seen for this task."""
    identifier_reuse: Literal["merged", "rejected", "again"] = "merged"
    """D, 2.2: the task that is there; 400; a second task."""
    retrieval_over_footage: Literal["skip", "duplicate"] = "skip"
    """D, 2.2: what happens to pictures whose times the database holds."""
    running_state: str = "InProgress"
    """D, 1.5: the word for a task in progress."""
    retrieval_refused_status: Literal[400, 403] = 400
    """C, 2.2: where edition or camera do not allow it."""
    onvif_authentication: Literal["wsse", "digest"] = "wsse"
    """D, 7.7: how the ONVIF driver logs in at a device over HTTP; by RTSP it is Digest (A)."""
    onvif_opens_live: bool = False
    """D, 7.7: whether the driver opens the live stream as well; that pictures come of it is not demanded."""
    # -- marks
    bookmark_wrapper: Wrapper = "result"
    """C, 4.1."""
    bookmark_status: Created = 201
    """C, 4.1."""
    lock_wrapper: Wrapper = "result"
    """D, 7.1."""
    lock_status: Created = 201
    """D, 7.1."""
    lock_refused_status: Literal[400, 403, 404] = 403
    """C, 4.2: on an edition without evidence locks."""
    event_source: Literal["kept", "ignored", "refused"] = "kept"
    """D, 4.3: further fields of `POST /events`."""
    marks_checked: bool = True
    """C, 4.1: begin ≤ triggered ≤ end is required (400)."""
    # -- recorder
    token_needs_oauth: bool = False
    """A/C, 3.1: whether a recorder's token dies with the OAuth token it was given on (the vendor's wrapper
    takes the shorter of both)."""
    end_next: Literal["current", "asked"] = "current"
    """3.5: `Next` at the end of the database."""
    gap_goto: Literal["before", "after"] = "before"
    """B, 3.4: `goto` into a gap answers the last group before it; the first one after it."""
    end_repeats: bool = True
    """B, 3.4: `next` at the end repeats the last group. False: an empty answer with `Content-length: 0`."""
    multipart: bool = True
    """B, 3.3: `multipartdata` gives one picture per part. False: the group as one body, packet by packet."""
    wrapper_packet: bool = False
    """B, 3.6: a group comes as one 0xFEF0 packet that holds the pictures."""
    privacy_mask: bool = False
    """B, 3.5: the header `PrivacyMask` appears."""
    header_case: Literal["published", "lower", "upper"] = "published"
    """3.5: header names are to be compared without case."""
    bunched_times: bool = True
    """B, 3.6: pictures of a stream with B pictures carry arrival times, bunched by mini-group. False: their
    presentation times."""
    access_unit_delimiters: bool = True
    """C, 3.6: pictures keep the delimiters (NAL type 9 or 35) that they came with; a camera sends none."""
    before_first: Literal["first", "empty"] = "first"
    """C, 3.4: `goto` before the first group answers that one, or nothing."""
    expired_token: Literal["closed", "refused"] = "closed"
    """C, 3.3: what a connection meets whose token expired: its end, or `connected` no."""
    refuses_each: bool = True
    """C, 3.3: whether each call is refused that came before a fresh token, or the first one, and the others
    are dropped."""
    single_alone: bool = False
    """B, 3.5: an answer of one picture is no multipart body, though `multipartdata` was asked for."""
