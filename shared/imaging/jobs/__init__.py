"""Work on strangers' pixels in processes of its own, so that a crash or a hang costs one file: `run_job` starts one."""

from shared.imaging.jobs.run import JobFailed, run_job

__all__ = ["JobFailed", "run_job"]
