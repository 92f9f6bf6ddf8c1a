"""Which of many prompts are taken: a few of each user, and of those that begin alike the first.

After Ouyang et al. (2022, section 3.2), who took at most 200 of a user and dropped prompts that
share a long prefix, whose length they do not print. They also filtered the training part for what
identifies people, and do not say how. That is not done here: patterns would find addresses of mail
and pass over names, so that is for who collects the prompts.
"""

from collections.abc import Hashable


class Sieve:
    """Takes prompts one after the other, and knows those that it left out."""

    def __init__(self, per_user: int | None, common_prefix: int | None):
        """
        Args:
          per_user: prompts of a user at most; any number where None.
          common_prefix: characters in which no two prompts begin alike; they may where None.
        """
        self.per_user, self.common_prefix = per_user, common_prefix
        self.users: dict[Hashable, set[str]] = {}  # what each asked
        self.first: dict[str, str] = {}  # what began so, as it is known
        self.crowded: set[tuple[Hashable, str]] = set()
        self.alike: set[str] = set()

    def takes(self, user: Hashable, prompt: str, known: str) -> bool:
        """Whether a prompt is taken; one that was taken is again, and counts once.

        Args:
          known: what the prompt is known by, of which no two begin alike; "" where it may.
        """
        length = self.common_prefix
        start = known[:length] if length and len(known) >= length else None
        if start is not None and self.first.get(start, known) != known:
            self.alike.add(prompt)
            return False
        if self.per_user and user is not None:
            asked = self.users.setdefault(user, set())
            if prompt not in asked and len(asked) >= self.per_user:
                self.crowded.add((user, prompt))
                return False
            asked.add(prompt)
        if start is not None:
            self.first[start] = known
        return True

    def __str__(self) -> str:
        """How many were left out, and why; empty where nothing was."""
        told = {
            f"that begin with the {self.common_prefix} characters of another": len(self.alike),
            f"above the {self.per_user} of their user": len(self.crowded),
        }
        return ", ".join(f"{count} {why}" for why, count in told.items() if count)
