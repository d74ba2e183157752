"""A real RTSP server for the tests: GStreamer's, on loopback, one H.264 stream of one colour with a moving ball.

Run by Debian's own Python, which has the bindings: /usr/bin/python3 rtsp_server.py --port 0 --size 320x240.
Prints `ready PORT` once clients may connect, and serves until it is killed. Nothing of the project is imported here.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  the versions must be named first


def description(width_px: int, height_px: int, colour: str, fps: int) -> str:
    """Return a launch line: one colour, with a ball over it, so that no two pictures are the same."""
    caps = f"video/x-raw,width={width_px},height={height_px},framerate={fps}/1"
    return (
        f"( videotestsrc is-live=true pattern=ball foreground-color=0xffffffff background-color=0xff{colour}"
        f" animation-mode=frames ! {caps} ! videoconvert ! video/x-raw,format=I420"
        f" ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps}"
        " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--colour", default="c83c14", help="RRGGBB")
    parser.add_argument("--fps", type=int, default=15)
    options = parser.parse_args()
    width_px, height_px = (int(side) for side in options.size.split("x"))

    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(description(width_px, height_px, options.colour, options.fps))
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    server.get_mount_points().add_factory("/camera", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"port {options.port} can't be bound")
    print(f"ready {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
