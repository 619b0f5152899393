"""``pgcopydb follow``."""

from __future__ import annotations

import typer

from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.cli import options as o
from pgcopydb.cli import stages
from pgcopydb.cli import stream_options as so
from pgcopydb.cli.given import begin_logging, log_flags, servers, workdir_of
from pgcopydb.cli.known import known_stream
from pgcopydb.runtime.stop import stop_on_signals


def follow(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: so.Endpos = None,
    on_conflict: so.OnConflictOption = OnConflict.ERROR,
    apply_mode: so.ApplyModeOption = ApplyMode.SERIAL,
    keep_files: so.KeepFiles = False,
    max_disk: so.MaxDisk = 0,
    min_free: so.MinFree = None,
    replay_no_op_updates: so.ReplayNoOp = False,
    skip_large_objects: o.SkipLargeObjects = False,
    _resume: o.ResumeAnyway = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Bring a target that was cloned to where the source is, and keep it there until the end position.

    Needs the slot of an earlier `snapshot --follow` or `clone --follow` of the same work directory. It always goes on
    where it was left; applying waits for `stream sentinel set apply` when the copy was made step by step.
    """
    begin_logging(verbose, notice, debug, trace, quiet)
    source_info, target_info = servers(source, target)
    workdir = workdir_of(directory)
    with stop_on_signals() as stop:
        following = stages.Following.between(
            source_info,
            target_info,
            workdir,
            stop,
            flags=log_flags(verbose, notice, debug, trace, quiet),
            stage_flags=stages.flags_of_stages(
                on_conflict=on_conflict,
                apply_mode=apply_mode,
                keep_files=keep_files,
                replay_no_op_updates=replay_no_op_updates,
                max_disk=max_disk,
                min_free=min_free,
            ),
            skip_large_objects=skip_large_objects,
        )
        stream = known_stream(workdir)
        with workdir.lock("follow"), following.service():
            stages.set_endpos(following, stream, endpos)
            stages.warn_of_unfollowed(following, stream)
            supervisor = following.supervisor(stream, stages.ALL)
            supervisor.start()
            stages.wait(following, stream, supervisor)
            stages.finish(following, stream, supervisor, sequences=True)


def register(app: typer.Typer) -> None:
    app.command("follow")(follow)
