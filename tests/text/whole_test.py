"""A tokenizer.json of others: its added tokens are kept, and its ids are ours or it is refused."""

import json
import string

import pytest

from lm.core.errors import DataError
from lm.text.tokenizer import TokenizerConfig, build, load
from tests.text.tokenizers import bytes_alone, learned

library = pytest.importorskip("tokenizers")
Regex, normalizers, pre_tokenizers = library.Regex, library.normalizers, library.pre_tokenizers

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read(folder, kind="gpt2"):
    return build(TokenizerConfig(kind=kind, path=str(folder)), list)


@pytest.mark.parametrize("files", ["tokenizer.json", "options", "added_tokens.json"])
def test_added_tokens_keep_their_ids_and_text_never_becomes_one(tmp_path, files):
    whole = learned()
    added, size = ["<|im_start|>", "<|im_end|>", "[PAD]"], whole.get_vocab_size()
    whole.add_special_tokens(added)
    if files == "tokenizer.json":
        whole.save(str(tmp_path / files))
    else:
        whole.model.save(str(tmp_path))
        ids = {name: size + i for i, name in enumerate(added)}
        rows = {str(i): {"content": name, "special": True} for name, i in ids.items()}
        options = {"added_tokens_decoder": rows} if files == "options" else {}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
        (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
    ours = read(tmp_path)
    assert ours.vocab_size == size + 3
    names = {"end": 0, "im_start": size, "im_end": size + 1, "[PAD]": size + 2}
    assert ours.specials == names
    text = "The fox<|im_end|>"
    assert max(ours.encode(text)) < size
    assert (
        ours.decode([size, *ours.encode(text), size + 1]) == text == whole.decode(ours.encode(text))
    )
    ours.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert again.digest == ours.digest and again.specials == ours.specials


@pytest.mark.parametrize(
    ("specials", "words", "shift", "lost"),
    [
        (["<|im_end|>"], ["  ", "\t\t"], 0, r"'  ', '\\t\\t'"),
        (["user", "<|im_end|>"], [], 0, "'user'"),  # which here is the name of another
        (["<|im_end|>"], [], 5, r"'<\|im_end\|>'"),
    ],
)
def test_added_tokens_that_cannot_be_kept_are_named(tmp_path, specials, words, shift, lost):
    whole = learned()
    whole.add_special_tokens(specials)
    whole.add_tokens(words)
    raw = json.loads(whole.to_str())
    for row in raw["added_tokens"][1:]:
        row["id"] += shift
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=f"the added tokens {lost} cannot be kept: only specials"):
        read(tmp_path)


OTHERWISE = {
    "no splitting": {"pre_tokenizer": bytes_alone()},
    "lower case": {"normalizer": normalizers.Lowercase()},
    "GPT-4's": {
        "pre_tokenizer": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(GPT4), "isolated"), bytes_alone()]
        )
    },
    "blanks": {
        "pre_tokenizer": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(" "), "isolated"), bytes_alone()]
        )
    },
}


@pytest.mark.parametrize("name", OTHERWISE)
@pytest.mark.parametrize("beside", [False, True])
def test_a_file_that_splits_text_otherwise_is_refused(tmp_path, name, beside):
    whole = learned(**OTHERWISE[name])
    if beside:  # with the pieces in files that say nothing of it
        whole.model.save(str(tmp_path))
    whole.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"tokenizer\.json gives '.*its normalizer or pre-tok"):
        read(tmp_path)


def test_one_piece_that_our_splitting_never_makes_is_found(tmp_path):
    """Among 50,000, those of some texts at random may be others."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [left + right for left in "abcdefgh" for right in string.ascii_letters]
    vocab = {piece: i for i, piece in enumerate(["<|endoftext|>", *letters, *pairs, "a!"])}
    merges = [(pair[0], pair[1]) for pair in [*pairs, "a!"]]
    whole = library.Tokenizer(library.models.BPE(vocab, merges))
    whole.pre_tokenizer = bytes_alone(use_regex=True)
    whole.save(str(tmp_path / "tokenizer.json"))
    assert read(tmp_path).encode("a!") == [vocab["a"], vocab["!"]]  # the control
    whole.pre_tokenizer = bytes_alone()
    whole.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="gives 'a!' the ids"):
        read(tmp_path)


def test_a_wordpiece_that_splits_text_otherwise_is_refused(tmp_path):
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: i for i, word in enumerate([*specials, "the", "fox", ".", "fox."])}
    model = library.models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100)
    whole = library.Tokenizer(model)
    whole.add_special_tokens(specials)
    whole.normalizer = normalizers.BertNormalizer(lowercase=True)
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.save(str(tmp_path / "tokenizer.json"))
    assert read(tmp_path, "wordpiece").encode("The fox.") == [5, 6, 7]  # the control
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    whole.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="wordpiece as it was published"):
        read(tmp_path, "wordpiece")


def test_gpt1_is_refused_where_its_words_are_others_but_not_for_what_transformers_simplifies(
    tmp_path,
):
    pytest.importorskip("ftfy")
    pieces = ["<unk>", "\n</w>", "<|endoftext|>", *"thefox", *(c + "</w>" for c in "thefox")]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    model = library.models.BPE(vocab, [], unk_token="<unk>", end_of_word_suffix="</w>")
    whole = library.Tokenizer(model)
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.normalizer = normalizers.BertNormalizer(lowercase=True)
    whole.save(str(tmp_path / "tokenizer.json"))
    ours = read(tmp_path, "gpt1")
    assert ours.encode("the\nfox") != whole.encode("the\nfox").ids
    whole.normalizer = normalizers.BertNormalizer(lowercase=False)
    whole.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="gpt1 as it was published"):
        read(tmp_path, "gpt1")
