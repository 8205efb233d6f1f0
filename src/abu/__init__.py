"""Attribution by unlearning (AbU): which training images made this picture possible?"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Root of the repository; every relative path of the study starts here."""
