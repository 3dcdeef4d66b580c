"""Opens MCRpy's GUI, fills in forms and presses its buttons as a user does; prints as JSON what the window showed.

A line STEP after each step, one line SHOWN at the end.

Run as a script by tests/test_gui.py, in a process of its own: a process holds one wx.App, and Gooey replaces argparse's
`parse_args` for good. The argument is a JSON list of steps, done one after the other in one window:
`select` (text of the sidebar), `values` (id of a widget -> value), `stop_at` (press Stop when that many progress lines
have come), `close_at` (close the window then, which ends everything), `restart` (press Restart instead of filling in a
form).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any


def main() -> None:
    steps = json.loads(sys.argv[1])
    sys.argv = ["mcrpy"]
    from gooey.gui import application

    shown: dict[str, Any] = {"steps": []}
    application.run = lambda spec: drive(application, spec, iter(steps), shown)
    from mcrpy_diffusion.commands import mcrpy_commands as commands

    try:
        commands.gui([])
    except SystemExit as left:
        shown["status"] = left.code
    print("\nSHOWN" + json.dumps(shown), flush=True)
    os._exit(0)  # without taking the window apart


def drive(application: Any, spec: dict[str, Any], steps: Iterator[dict[str, Any]], shown: dict[str, Any]) -> None:
    import wx
    from gooey.gui import events
    from gooey.gui.pubsub import pub

    spec.update(show_success_modal=False, show_failure_modal=False, show_stop_warning=False)
    app, frame = application.build_app(spec)
    footer, sidebar = frame.footer, frame.navbar.listbox
    shown["sidebar"] = list(sidebar.GetStrings())
    step: dict[str, Any] = {}
    seen: dict[str, Any] = {}

    def press(button: Any) -> None:
        assert button.IsShown()
        wx.PostEvent(button, wx.CommandEvent(wx.wxEVT_BUTTON, button.GetId()))

    def when(condition: Callable[[], Any], action: Callable[[], None]) -> None:
        """Wait for what an event brings about; how long that takes depends on what else the machine does."""
        if condition():
            action()
        else:
            wx.CallLater(50, when, condition, action)

    def next_step() -> None:
        step.clear()
        step.update(next(steps, {}))
        if not step:
            app.ExitMainLoop()
            return
        seen.clear()
        seen.update(progress=[], bar=[], console="", errors={})
        if step.get("restart"):
            when(footer.restart_button.IsShown, lambda: press(footer.restart_button))
            return
        if footer.edit_button.IsShown():
            press(footer.edit_button)
        when(footer.start_button.IsShown, select)

    def select() -> None:
        sidebar.SetStringSelection(step["select"])
        chosen = wx.CommandEvent(wx.wxEVT_LISTBOX, sidebar.GetId())
        chosen.SetInt(sidebar.GetSelection())
        chosen.SetEventObject(sidebar)
        wx.PostEvent(sidebar, chosen)
        when(lambda: frame.navbar.getSelectedGroup() == step["select"], fill_in)

    def fill_in() -> None:
        form = frame.navbar.getActiveConfig()
        for name, value in step.get("values", {}).items():
            form.widgetsMap[name].setValue(value)
        before = frame.clientRunner._process
        press(footer.start_button)

        def is_answered() -> bool:
            seen["errors"] = {w._id: w.error.GetLabel() for w in form.reifiedWidgets if w.error.IsShown()}
            return bool(seen["errors"]) or frame.clientRunner._process is not before

        when(is_answered, lambda: end_of_step() if seen["errors"] else None)

    def moved(progress: int | None) -> None:
        if progress is not None:
            seen["progress"].append(progress)
            seen["bar"].append(footer.progress_bar.GetValue())
            if len(seen["progress"]) == step.get("stop_at"):
                press(footer.stop_button)
            if len(seen["progress"]) == step.get("close_at"):
                frame.Close()

    def end_of_step() -> None:
        process = frame.clientRunner._process
        seen["status"] = None if process is None or seen["errors"] else process.returncode
        seen["title"], seen["subtitle"] = frame.header._header.GetLabel(), frame.header._subheader.GetLabel()
        seen["console"] = frame.console.getText()
        shown["steps"].append(dict(seen))
        print("\nSTEP" + json.dumps(seen), flush=True)
        next_step()

    pub.subscribe(events.PROGRESS_UPDATE, moved)
    pub.subscribe(events.EXECUTION_COMPLETE, lambda: wx.CallAfter(end_of_step))  # the window has shown it by then
    wx.CallAfter(next_step)
    app.MainLoop()


if __name__ == "__main__":
    main()
