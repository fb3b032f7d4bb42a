"""Which videos are read, for people: by the names of formats, and by the ends of file names.

The content decides, not the name; a page uses these to choose files.
"""

KINDS = {
    "MP4": (".mp4", ".m4v"),
    "MOV": (".mov",),
    "WebM": (".webm",),
    "MKV": (".mkv",),
    "AVI": (".avi",),
    "GIF": (".gif",),
}
"""What is named where a file is refused."""

SUFFIXES = (
    *(suffix for suffixes in KINDS.values() for suffix in suffixes),
    *(".apng", ".avif", ".webp", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv"),
    *(".asf", ".ogv", ".mxf", ".dv", ".ivf", ".y4m"),
)

*_FIRST, _LAST = KINDS
EXPECTED = f"expected a video such as {', '.join(_FIRST)} or {_LAST}"
