"""ServiceConfig, the configuration file that a service's unit refers to, so that a reload reads it again."""

import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Set, Tuple

from ...errors import OptionError
from ..parser import run_parser
from ..run.cameras import ANYWHERE, parse_given, split_words
from .rights import closed_file, is_changeable

if TYPE_CHECKING:
    from argparse import Namespace

    from ..run.config_file import Again

    Own = List[Tuple[str, Namespace]]


class ServiceConfig:
    """The configuration file of a service, and the options beside it on the command line of install-service.

    again   the file of that command line, or None

    path    its absolute path, or None
    """

    def __init__(self, again: "Optional[Again]") -> None:
        self.path = None if again is None else os.path.abspath(again.path)
        common, own = split_words([] if again is None else again.beside)
        self._given: Set[str] = set(vars(parse_given(run_parser(), common)[0]))
        for _, words in own:
            self._given |= ANYWHERE.intersection(vars(parse_given(run_parser(), words)[0]))
        self._own = len(own)

    def has(self, name: str) -> bool:
        """Return whether an option, by its name in the arguments, can come from the file only."""
        return self.path is not None and name not in self._given

    def own(self, own: "Own") -> "Own":
        """Return those of the cameras' own options that the command line has: all of them if there is no file."""
        return own if self.path is None else own[len(own) - self._own :]

    def beside(self, values: Mapping[str, object], made: Set[str]) -> Dict[str, object]:
        """Return the options for the unit: without a file all of them, otherwise the file and what has priority over it.

        made    names of the options that install-service sets itself
        """
        if self.path is None:
            return dict(values)
        found = {name: value for name, value in values.items() if name in made or not self.has(name)}
        return dict(found, config=self.path)

    def check_absolute(self, path: Any, what: str) -> None:
        """Raise OptionError for a relative path in the file, because run resolves it when the service has started."""
        if not os.path.isabs(path):
            raise OptionError(
                "{} {} in {} is a relative path, and a service has a working folder of its own: write the absolute path "
                "there, such as {}".format(what, path, self.path, os.path.abspath(path))
            )

    def notes(self, user: str) -> List[str]:
        """Return notes on the file's rights, for the user who installs."""
        notes: List[str] = []
        if self.path is not None and is_changeable(self.path):
            notes.append(
                "users other than root can change {0}, and with it what the service does: sudo chown root {0}; sudo chmod "
                "go-w {0}".format(self.path)
            )
        found = None if self.path is None else closed_file(self.path, user)
        if found:
            change = "chgrp {0} {1}; sudo chmod 640 {1}" if found == self.path else "chmod a+x {1}"
            notes.append("{} cannot read {}: sudo {}".format(user, found, change.format(user, found)))
        return notes
