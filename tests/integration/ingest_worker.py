"""A worker that takes in studies: `python -m tests.integration.ingest_worker DATABASE_URL OBJECTS REPORT [WHEN N]`.

Settings come from the environment. With WHEN and N it kills itself as `crashing_worker` does. Stopped by SIGTERM, it writes
its peak of memory and that of its children, in MiB, to REPORT.
"""

import json
import resource
import signal
import sys
import threading
from pathlib import Path

from functions import ingest
from shared.config import Settings
from shared.db.session import Database
from shared.runtime import Services
from shared.runtime.postgres_bus import PostgresBus
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.integration.crashing_worker import arm
from tests.memory import peak_mib


def main() -> None:
    """Serve until killed or stopped."""
    database_url, objects, report, *kill = sys.argv[1:]
    if kill:
        arm(kill[0], int(kill[1]))
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    storage = FolderStorage(Path(objects), UrlSigner(b"secret"), "http://127.0.0.1")
    services = Services(Settings(), Database(database_url), storage)
    consumer = PostgresBus(services.database).consumer(ingest.function, services)
    consumer.start()
    over.wait()
    consumer.stop(60)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    Path(report).write_text(json.dumps({"own": peak_mib(), "children": children}))


if __name__ == "__main__":
    main()
