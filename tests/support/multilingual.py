"""Random sentences in several scripts, with many kinds of characters and spaces."""

import random

WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}  # Full-width letters and digits.
LETTERS = [chr(code) for code in range(0x0250, 0x3400) if chr(code).isalpha()]
WORDS = (
    # Latin with diacritics, ligatures and decomposed accents, numbers, and words in capitals.
    "naïve café Ångström über señor façade Łódź œuvre ﬁnal straße l'été e-mail 3.14 1,000 QUICK fox"
    " cafe\u0301 jumps over the lazy dog don't",
    "привет мир слово язык быстрая лиса объём ёлка перевод ЖИЗНЬ щука",
    "日本語 価格は 中文 機械翻訳 你好世界 한국어 カタカナ ひらがな 東京都",
    "🙂 🎉 👩‍👩‍👧 ❤️ 🇩🇪",
    "ﾊﾝｶｸ ① ㎏ " + "ABC 123 hello".translate(WIDE),
)
SPACES = ("", " ", " ", " ", "  ", "\u3000", "\u00a0", "\t", "\u200b", " \n")
ENDS = ("", "", " ", "   ", "\u3000")


def sentences(count, seed):
    """Returns random sentences; about one of ten has a letter that is rare in all of them."""
    rng = random.Random(seed)
    words = [line.split() for line in WORDS]

    def word():
        return rng.choice(rng.choice(words)) + rng.choice(("", "", "", ".", ",", "!", "。"))

    def sentence():
        body = "".join(word() + rng.choice(SPACES) for _ in range(rng.randint(1, 14)))
        rare = rng.choice(LETTERS) if rng.random() < 0.1 else ""
        return rng.choice(ENDS) + body + rare + rng.choice(ENDS)

    return [sentence() for _ in range(count)]
