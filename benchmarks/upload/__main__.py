"""What an upload costs, on one machine and on S3, beside the plainest program that does the same.

    python -m benchmarks.upload [--gib N] [--part-mib N] [--senders N] [--runs N]
    python -m tests.e2e.ceph exec -- python -m benchmarks.upload       also against S3, with --s3 or HOUNSFIELD_TEST_S3

One machine: parts go to signed URLs of the folder store. The server is a process of its own with the real HTTP server,
the middleware of every deployment and the storage routes alone; starting and completing the upload are done in it too.
The peer is a Starlette application under uvicorn that writes `request.stream()` to files. CPU seconds (user and system)
are those of the server process, from /proc; memory is the growth of its peak over what it holds when idle. Runs
alternate, medians are compared. The aim is at most 1.5 CPU seconds per GiB and less than 100 MB.

S3: the same parts to URLs that the store signs, beside boto3's `upload_file` with the same part size and as many threads,
without checksums, which is its faster way. Runs alternate; the aim is a ratio of rates of at least 0.9, in the median of pairs of runs.
"""

import argparse
import json
import os
from typing import Any

from benchmarks.upload.local import local
from benchmarks.upload.s3 import on_s3
from benchmarks.upload.sending import GIB, MIB


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=2.0, help="size of the upload to one machine")
    parser.add_argument("--s3-mib", type=int, default=256, help="size of the upload to S3")
    parser.add_argument("--part-mib", type=int, default=16)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3, help="of each kind; medians are compared")
    parser.add_argument(
        "--s3", default=os.environ.get("HOUNSFIELD_TEST_S3"), help="endpoint of an S3 service"
    )
    parser.add_argument("--folder", help="where to write; by default the system's folder for temporary files")
    options = parser.parse_args()
    part = os.urandom(options.part_mib * MIB)
    count = max(1, round(options.gib * GIB / len(part)))
    results: dict[str, Any] = {"local": local(part, count, options.senders, options.runs, options.folder)}
    if options.s3:
        parts = max(1, options.s3_mib // options.part_mib)
        results["s3"] = on_s3(options.s3, part, parts, options.senders, options.runs)
    else:
        print("S3         NOT MEASURED: give --s3, or run under `python -m tests.e2e.ceph exec --`")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
