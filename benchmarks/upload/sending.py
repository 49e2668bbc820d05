"""What the clients of both benchmarks do: sign the URLs of parts and PUT to them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from urllib.parse import urlsplit

from shared.storage.port import Part, Storage

KEY = "benchmark/upload.bin"
DAY = timedelta(days=1)
MIB, GIB = 1 << 20, 1 << 30


def sign_all(storage: Storage, upload_id: str, count: int) -> list[str]:
    """The URLs of all parts."""
    return [storage.sign_part("incoming", KEY, upload_id, number, DAY) for number in range(1, count + 1)]


def send_all(urls: Sequence[str], content: Callable[[int], bytes], senders: int) -> list[Part]:
    """PUT every part over `senders` connections; `content` gives the bytes of a part by its index."""
    local = threading.local()

    def send(index: int) -> Part:
        url = urlsplit(urls[index])
        if not hasattr(local, "connection"):
            local.connection = HTTPConnection(url.netloc, timeout=300)
        body = content(index)
        local.connection.request("PUT", f"{url.path}?{url.query}", body=body)
        response = local.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"part {index + 1} answered {response.status}: {answer[:300]!r}")
        return Part(index + 1, response.headers["etag"], len(body))

    with ThreadPoolExecutor(senders) as pool:
        return list(pool.map(send, range(len(urls))))
