"""Words as LaTeX prints them, in ASCII alone: every engine reads that, in every encoding."""

from __future__ import annotations

import re
import unicodedata

from orchestrator.report.paper import CHECK

SPELLED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"$\sim$",  # \textasciitilde is an accent without its letter
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "[": "{[}",  # after the end of a row it would begin an option
    "*": "{*}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    CHECK: r"\present{}",
    "✗": r"$\times$",
    "°": r"$^\circ$",
    "²": "$^2$",
    "³": "$^3$",
    "−": "$-$",
    "⁄": "/",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
MATHEMATICAL = {
    "αβγδεζηθ": "alpha beta gamma delta varepsilon zeta eta theta",
    "ικλμµνξπ": "iota kappa lambda mu mu nu xi pi",
    "ρσςτυφχψω": "rho sigma varsigma tau upsilon varphi chi psi omega",
    "ΓΔΘΛΞΠΣΥΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega",
    "←→↑↓↔⇒": "leftarrow rightarrow uparrow downarrow leftrightarrow Rightarrow",
    "≤≥≠≈∼≡∞": "leq geq neq approx sim equiv infty",
    "±∓×÷·∘⊕⊗†‡": "pm mp times div cdot circ oplus otimes dagger ddagger",
    "∈∪∩⊂∅∑∏∂∇√": "in cup cap subset emptyset sum prod partial nabla surd",
}
SPELLED |= {
    letter: rf"$\{name}$"
    for letters, names in MATHEMATICAL.items()
    for letter, name in zip(letters, names.split(), strict=True)
}
MARKS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
ACCENTS = dict(zip(MARKS, "`'^~=u.\"rHvc", strict=True))
"""The command of each."""


def escaped(words: str) -> str:
    """So that it is printed as it is written; of a letter that LaTeX lacks, its plain form or its number."""
    spelled = "".join(map(_spelled, unicodedata.normalize("NFC", re.sub(r"\s+", " ", words))))
    return re.sub("-(?=-)", "-{}", spelled)  # two hyphens would be a dash


def _spelled(letter: str) -> str:
    if letter in SPELLED:
        return SPELLED[letter]
    if letter.isascii() and letter.isprintable():
        return letter
    base, *accents = unicodedata.normalize("NFD", letter)
    if len(accents) == 1 and base.isascii() and accents[0] in ACCENTS:
        return rf"\{ACCENTS[accents[0]]}{{{base}}}"
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    if plain != letter and all(part in SPELLED or (part.isascii() and part.isprintable()) for part in plain):
        return "".join(map(_spelled, plain))
    return f"{{[}}U+{ord(letter):04X}{{]}}"
