"""Holds follow a folder that became another camera: they are about what is seen there."""

from cctv_storaged.journal.cameras import Cameras
from cctv_storaged.recorder.admission import CameraBook


async def follow_folders(cameras: Cameras, book: CameraBook) -> None:
    """The cameras that stand for their folders today come under the holds of those that did before.

    Those that the settings list, and one that it was, and is again: its block was taken out. A camera that is
    new otherwise comes under them with its first segment. Raises JournalFull.
    """
    for camera in (*book.configured.values(), *await cameras.sharing_a_folder()):
        if book.named(camera.folder).id == camera.id:
            await cameras.ensure(camera)
