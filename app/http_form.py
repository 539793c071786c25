"""Multipart forms with one file: read up to a limit, then taken apart."""

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.http_body import bounded_chunks
from contracts.errors import InvalidRequest

_ENVELOPE_BYTES = 64 * 1024
_MAX_FIELDS = 16


async def read_form(request: Request, max_file_bytes: int) -> tuple[dict[str, str], bytes]:
    """The text fields by name, and the bytes of the field `file`.

    Status 413 over the limit. Raises InvalidRequest for anything but such a form, a field that
    comes twice, and a file under another name.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise InvalidRequest("send multipart/form-data with a 'file'", "content-type")
    stream = bounded_chunks(request, max_file_bytes + _ENVELOPE_BYTES)
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=_MAX_FIELDS)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise InvalidRequest(f"malformed multipart body: {error}", "file") from error
    fields: dict[str, str] = {}
    content = None
    try:
        for name, value in form.multi_items():
            if name in fields or (name == "file" and content is not None):
                raise InvalidRequest(f"'{name}' is given twice", name)
            if isinstance(value, UploadFile) and name == "file":
                content = await value.read()
            elif isinstance(value, UploadFile) or name == "file":
                raise InvalidRequest("'file' is the one file of the form", "file")
            else:
                fields[name] = value
    finally:
        await form.close()
        # A form that ends within a file does not have that file.
        for file in parser._files_to_close_on_error:
            file.close()
    if content is None:
        raise InvalidRequest("'file' is needed: the audio", "file")
    return fields, content
