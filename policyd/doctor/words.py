"""Words as Postfix splits a value: at blanks and commas, but not within braces. Pure."""

BLANKS_AND_COMMAS = " \t\r\n,"


def split_words(text: str, separators: str = BLANKS_AND_COMMAS) -> list[str]:
    """The words of *text*; what stands in braces is one, or part of one.

    Source: mystrtokq() in Postfix's mystrtok.c.
    """
    if "{" not in text:
        for separator in separators:
            text = text.replace(separator, " ")
        return text.split()
    words, word, depth = [], "", 0
    for character in text:
        if depth == 0 and character in separators:
            if word:
                words.append(word)
            word = ""
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        depth = max(depth, 0)
        word += character
    return [*words, word] if word else words


def without_braces(word: str) -> str | None:
    """What stands in the braces around *word*; None where there are none."""
    return word[1:-1].strip() if word.startswith("{") and word.endswith("}") else None


def is_table(word: str) -> bool:
    """Whether *word* names a table, as `hash:/etc/postfix/access`."""
    kind, colon, _ = word.partition(":")
    return bool(colon) and kind.replace("_", "").replace("-", "").isalnum()
