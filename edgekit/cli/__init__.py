"""The command line: parse, call, print. One module per verb group; no logic and no heavy import at module level."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
from typing import Annotated

import typer

from edgekit.cli import bundle, console, demo, doctor, emulator, evaluate, phantom, phone_app, predict, studies, train, verify
from edgekit.cores import share_machine
from edgekit.errors import EdgekitError, InputError, MissingError, UsageError
from edgekit.version import VERSION

app = typer.Typer(
    name="edgekit",
    help="Put a multi-model medical imaging pipeline on phones, Jetsons and desktop GPUs, and prove it still answers right.",
    epilog="edgekit takes one thread a core, and those that wait sleep, so that other programs get their share. "
    "OMP_NUM_THREADS=N and OMP_WAIT_POLICY=active in the environment change it; edgekit doctor says what holds.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(phantom.app, name="phantom", no_args_is_help=False)
app.add_typer(studies.app, name="studies", no_args_is_help=False)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("score")(evaluate.score)
app.command("export")(bundle.export)
app.command("verify")(verify.verify)
app.command("bench")(bundle.bench)
app.command("predict")(predict.predict)
app.command("app")(phone_app.app)
app.add_typer(emulator.app, name="emulator", no_args_is_help=False)

_FULL_DISK = re.compile(rf"{re.escape(os.strerror(errno.ENOSPC))}|\d+ requested and \d+ written")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"edgekit {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,  # noqa: ARG001  (read by `run`)
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version.")] = False,  # noqa: ARG001
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: list[str]) -> int:
    """Run one command.

    A failure prints its cause and remedy on stderr (with ``--debug`` also the traceback), and with ``--json`` the document
    ``{"error": {"message", "remedy", "exit_code"}}`` on stdout.

    Parameters
    ----------
    arguments
        What the user typed after ``edgekit``.

    Returns
    -------
    int
        The exit code.
    """
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    arguments = [word for word in options if word != "--debug"] + arguments[len(options) :]
    console.open_streams()
    console.expect_json("--json" in options)
    try:
        share_machine()
        code = app(args=arguments, prog_name="edgekit", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader left, as in `edgekit ... | head`: nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        try:
            failure = _explain(error)
        except EdgekitError as deeper:  # edgekit itself is not installed, so nothing tells which extra would help
            failure = deeper
        if console.awaits_json():
            console.print_json({"error": {"message": failure.message, "remedy": failure.remedy, "exit_code": failure.exit_code}})
        print(f"error: {failure.message}", file=sys.stderr)
        if failure.remedy:
            print(f"remedy: {failure.remedy}", file=sys.stderr)
        return failure.exit_code
    if code == 130:  # typer returns this code for Ctrl-C
        console.say_interrupted()
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> EdgekitError:
    """Return what the user is told about `error`."""
    from edgekit.doctor import LIBRARIES_REMEDY, extra_of

    if (full := _find_full_disk(error)) is not None:
        where = f" while writing {full.filename}" if isinstance(full, OSError) and full.filename else ""
        return InputError(f"The disk is full{where}.", "Free some space or choose a folder on another disk, then run it again.")
    match error:
        case EdgekitError():
            return error
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            return UsageError(error.format_message(), f"see {context.command_path if context else 'edgekit'} --help")
        case ModuleNotFoundError(name=str(module)) if (extra := extra_of(module)) is not None:
            package = f"edgekit-imaging[{extra}]" if extra else "edgekit-imaging"
            return MissingError(f"The Python package '{module}' is not installed.", f"Install it with: pip install '{package}'")
        case ImportError() if ".so" in str(error) and "cannot open shared object file" in str(error):
            return MissingError(f"A system library is missing: {error}", f"On Debian or Ubuntu: {LIBRARIES_REMEDY}")
        case OSError() if error.filename:
            return InputError(f"{error.strerror}: {error.filename}", "Check the path and who may read or write it.")
        case MemoryError():
            return InputError("This machine ran out of memory.", "Close other programs, or run the command on fewer or smaller films.")
    return EdgekitError(
        f"Unexpected {type(error).__name__}: {error}",
        "This is a fault in edgekit: please report it with what the same command prints with --debug.",
    )


def _find_full_disk(error: BaseException | None) -> BaseException | None:
    """Return the error that a full disk raised, among `error` and what led to it; None when there is none.

    Libraries and processes pass it on in errors of their own: some keep only the system's words, NumPy only how much was not written.
    """
    while error is not None:
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or _FULL_DISK.search(str(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def main() -> None:
    """Entry point of the ``edgekit`` command."""
    code = run(sys.argv[1:])
    gc.freeze()  # the process ends: no last search for cycles through every module, a tenth of a short command
    sys.exit(code)
