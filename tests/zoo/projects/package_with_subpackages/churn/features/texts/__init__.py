from .flags import NoteFlags
