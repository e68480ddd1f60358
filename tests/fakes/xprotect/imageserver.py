"""The ImageServer of a recorder, port 7563: one connection, one device (section 3.3 to 3.6 of the paper)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from tests.fakes.xprotect import genericbytes, imagewire
from tests.fakes.xprotect.imagewire import GENERIC, JPEG, Call, Form, Malformed
from tests.fakes.xprotect.jpeg import jpeg_of
from tests.fakes.xprotect.navigation import Cursor, Place
from tests.fakes.xprotect.pictures import Group, ms
from tests.fakes.xprotect.sender import Cut, Sender
from tests.fakes.xprotect.site import Site

_LIVE_POLL_S = 0.05
_LIVE_PACKAGE_S = 5.0


@dataclass(slots=True)
class _Device:
    """What a connection agreed on."""

    camera: UUID
    token: str
    cursor: Cursor
    jpeg: bool
    multipart: bool
    number: int = 0  # of packets sent
    refused: bool = False  # a call, since the token was last shown


@dataclass(slots=True)
class ImageServer:
    """Answers connections. `complaints` says what the calls that came had wrong."""

    site: Site
    complaints: list[str] = field(default_factory=list)

    async def serve(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to its end; `first` was read already."""
        session = _Session(self.site, Sender(writer, self.site.faults))
        try:
            while document := first + await reader.readuntil(imagewire.END):
                first = b""
                await session.answer(imagewire.read_call(document.removesuffix(imagewire.END)))
        except Malformed as exc:
            self.complaints.append(str(exc))
        except (Cut, ConnectionError, asyncio.IncompleteReadError):
            pass  # over, by a fault or as its client went
        except asyncio.LimitOverrunError:
            self.complaints.append("a call without end")
        finally:
            await session.stop()


@dataclass(slots=True)
class _Session:
    site: Site
    sender: Sender
    _device: _Device | None = None
    _live: asyncio.Task[None] | None = None

    async def answer(self, call: Call) -> None:
        """Malformed and Cut end the connection."""
        self.site.calls.count(f"imageserver:{call.method}")
        if self.site.faults.recorder != "no":
            raise Cut
        if call.method == "connect":
            await self._connect(call)
        elif self._device is None:
            raise Malformed(f"{call.method} before a connect that was accepted")
        elif call.method == "connectupdate":
            await self._renew(call, self._device)
        elif not self.site.tokens.corporate_is_good(self._device.token):
            await self._expired(call, self._device)
        else:
            await self._move(call, self._device)

    async def stop(self) -> None:
        """Ends `live`."""
        if self._live:
            self._live.cancel()
            await asyncio.gather(self._live, return_exceptions=True)
            self._live = None

    async def _connect(self, call: Call) -> None:
        if self._device:
            raise Malformed("a second connect")
        for name in ("username", "password", "cameraid", "alwaysstdjpeg"):
            if name not in call.values:
                raise Malformed(f"connect has no {name}")
        asked = imagewire.read_connecting(call)
        if call.values["cameraid"].lower() != str(asked.camera):
            raise Malformed("cameraid and connectparam name two devices")
        refusal = self._refusal(asked.camera, asked.token)
        if not refusal:
            self._device = _Device(
                camera=asked.camera,
                token=asked.token,
                cursor=Cursor(self.site.media, asked.camera),
                jpeg=call.yes("alwaysstdjpeg"),
                multipart=call.yes("clientcapabilities/multipartdata"),
            )
        await self.sender.send(imagewire.connected(call, refusal))
        if refusal:
            raise Cut

    def _refusal(self, camera_id: UUID, token: str) -> str | None:
        if self.site.faults.refuse_connect:
            return self.site.faults.refuse_connect
        if not self.site.tokens.corporate_is_good(token):
            return "Token invalid"
        camera = self.site.camera(camera_id)
        if camera is None:
            return "Unknown device"
        return None if self.site.is_enabled(camera) else "Device is disabled"

    async def _renew(self, call: Call, device: _Device) -> None:
        asked = imagewire.read_connecting(call)
        refusal = self._refusal(device.camera, asked.token)
        if asked.camera != device.camera:
            refusal = "Another device"
        if not refusal:
            device.token, device.refused = asked.token, False
        await self.sender.send(imagewire.connected(call, refusal))

    async def _expired(self, call: Call, device: _Device) -> None:
        await self.stop()
        if self.site.assumptions.expired_token == "refused":
            if device.refused and not self.site.assumptions.refuses_each:
                return
            device.refused = True
            await self.sender.send(imagewire.connected(call, "Token expired"))
            return
        raise Cut

    async def _move(self, call: Call, device: _Device) -> None:
        cursor = device.cursor
        moves: dict[str, Callable[[], Place]] = {
            "goto": lambda: cursor.goto(call.number("time")),
            "next": lambda: cursor.step(1),
            "previous": lambda: cursor.step(-1),
            "nextsequence": lambda: cursor.sequence(1),
            "previoussequence": lambda: cursor.sequence(-1),
            "begin": lambda: cursor.edge(last=False),
            "end": lambda: cursor.edge(last=True),
        }
        if call.method in moves:
            await self._show(call, device, moves[call.method]())
        elif call.method == "alarms":
            await self.sender.send(imagewire.method_response(call, self._alarms(call, device.camera)))
        elif call.method == "live":
            await self.stop()
            self._live = asyncio.create_task(self._stream(call, device))
        elif call.method == "stop":
            await self.stop()
        else:
            raise Malformed(f"unknown method {call.method!r}")

    async def _show(self, call: Call, device: _Device, place: Place) -> None:
        answer = await self._image(call, device, place)
        await self.sender.send(answer, image=True)

    async def _image(self, call: Call, device: _Device, place: Place) -> bytes:
        faults, assumptions = self.site.faults, self.site.assumptions
        form = self._form()
        if place.group is None or faults.take("bodiless_next"):
            return imagewire.single(call, place, GENERIC, b"", form)
        if device.jpeg or faults.wrong_picture_type:
            kind = JPEG if device.jpeg and not faults.wrong_picture_type else GENERIC
            return imagewire.single(call, place, kind, await jpeg_of(place.group), form)
        if faults.video_block or not device.multipart:
            return imagewire.single(call, place, GENERIC, genericbytes.video_block(place.group), form)
        bodies = self._packets(device, place.group, keys_only=call.yes("keyframesonly"))
        if assumptions.wrapper_packet:
            return imagewire.single(call, place, GENERIC, genericbytes.wrapped(bodies), form)
        if not assumptions.multipart or (assumptions.single_alone and len(bodies) == 1):
            return imagewire.single(call, place, GENERIC, b"".join(bodies), form)
        return imagewire.multipart(call, place, bodies, form)

    def _packets(self, device: _Device, group: Group, *, keys_only: bool = False) -> Sequence[bytes]:
        bodies = genericbytes.packets(
            group,
            bunched=self.site.assumptions.bunched_times,
            delimiters=self.site.assumptions.access_unit_delimiters,
            keys_only=keys_only,
            number=device.number,
        )
        device.number += len(bodies)
        return bodies

    def _alarms(self, call: Call, camera: UUID) -> str:
        """As the vendor's sample asks, around a time; or as another client does, from one to another.

        That half of `timespan` lies on either side is an inference.
        """
        if "centertime" in call.values:
            centre, span = call.number("centertime"), call.number("timespan")
            start_ms, end_ms = centre - span // 2, centre + span // 2
        else:
            start_ms, end_ms = call.number("starttime"), call.number("endtime")
        found = [
            f'<alarm starttime="{one.start_ms}" alarmtime="{one.start_ms}" endtime="{one.end_ms}"/>'
            for one in self.site.media.sequences(camera, start_ms, end_ms)
        ]
        most = call.number("numalarms") if "numalarms" in call.values else len(found)
        return f"<alarms>{''.join(found[:most])}</alarms>"

    async def _stream(self, call: Call, device: _Device) -> None:
        """Groups as they come into the database, from the last one on, and a status every five seconds."""
        loop = asyncio.get_running_loop()
        cursor, last_ms, told_at = Cursor(self.site.media, device.camera), None, -_LIVE_PACKAGE_S
        while True:
            if loop.time() - told_at >= _LIVE_PACKAGE_S:
                told_at = loop.time()
                await self.sender.send(imagewire.live_package(ms(self.site.now()), link_lost=False))
            place = cursor.edge(last=True)
            if place.group and place.current_ms != last_ms:
                last_ms = place.current_ms
                for picture in self._packets(device, place.group):
                    own = replace(place, current_ms=int.from_bytes(picture[20:28]))
                    await self.sender.send(imagewire.single(call, own, GENERIC, picture, self._form()))
            await asyncio.sleep(_LIVE_POLL_S)

    def _form(self) -> Form:
        faults, assumptions = self.site.faults, self.site.assumptions
        return Form(assumptions.header_case, faults.wrong_content_length, assumptions.privacy_mask)
