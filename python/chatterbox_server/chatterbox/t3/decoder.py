"""Continuous batching: requests join and leave between steps, and every live one gets a token per step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .batch import Batch, Live, Pending
from .cache import KeyValueCache, Span
from .config import STOP_SPEECH
from .graphs import Capturer, CudaCapturer, Graphs
from .model import T3, Prompt
from .prefixes import Prefixes
from .random import stream_start
from .sampling import Draw, Sampling

__all__ = ["Decoder", "Token"]

PREFILLS_PER_STEP = 2
"""Prompts and prefixes of voices that one step computes at most, so that live requests do not wait for long."""
PREFIX_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Token:
    """A request's next speech token."""

    request_id: int
    id: int | None
    """``None``: the model stopped. Otherwise below ``STOP_SPEECH``. As from upstream, ``START_SPEECH`` may come; it is
    no speech."""
    last: bool
    """The request is over: the model stopped or ``max_tokens`` are there."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    request_id: int
    prompt: Prompt
    sampling: Sampling
    max_tokens: int


class Decoder:
    """Decodes the requests that are added to it, up to ``slots`` at once; others wait in order.

    A request's tokens depend on its own prompt, sampling and seed, not on what is decoded beside it. ``draw`` replaces
    the seeded draw. ``prefix_bytes`` bounds the memory of computed voices. ``graphs`` allows ``warm_up`` to capture the
    step as CUDA graphs. An exception out of ``step`` (memory) leaves the requests without tokens of that step: drop
    them all.
    """

    def __init__(
        self, t3: T3, *, slots: int, draw: Draw | None = None, prefix_bytes: int = PREFIX_BYTES, graphs: bool = True
    ) -> None:
        self._t3 = t3
        self._draw = draw
        self._graphs_allowed = graphs
        self._graphs: Graphs | None = None
        self._guided = t3.config.guided
        self._waiting: deque[_Waiting] = deque()
        self._cache = t3.cache(slots * (2 if self._guided else 1))
        self._prefixes = Prefixes(prefix_bytes)
        self._batch = Batch(t3.config, slots, t3.device)

    @property
    def idle(self) -> bool:
        """Whether ``step`` has nothing to do."""
        return not self._waiting and not self._batch.live

    @property
    def slots_used(self) -> int:
        return len(self._batch.live)

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    @property
    def prefix_bytes(self) -> int:
        """Bytes of what was computed of voices."""
        return self._prefixes.nbytes

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values, those of voices included."""
        return self._cache.nbytes + self._prefixes.nbytes

    @torch.inference_mode()
    def warm_up(self, capturer: Capturer | None = None) -> None:
        """Capture the step, if the device has graphs or a ``capturer`` is given. For a decoder that is idle.

        Takes seconds, and the memory of the cache at once. Where it does not work out, a warning says why, and the
        decoder works without.
        """
        if not self.idle:
            raise ValueError("a decoder is warmed up before its first request")
        if capturer is None and self._t3.device.type == "cuda":
            capturer = CudaCapturer(self._t3.device)
        if self._graphs_allowed and self._graphs is None and capturer is not None:
            self._graphs = Graphs.prepare(self._t3, self._cache, self._batch.latest, capturer)

    def add(self, request_id: int, prompt: Prompt, sampling: Sampling, max_tokens: int) -> None:
        """Take a request in, of at most ``max_tokens`` tokens.

        Raises ``ValueError``, whose message says what is wrong with it.
        """
        if request_id in self._batch.live or any(request_id == each.request_id for each in self._waiting):
            raise ValueError(f"request {request_id} is being decoded")
        self._check(prompt, max_tokens)
        self._waiting.append(_Waiting(request_id, prompt, sampling, max_tokens))

    def drop(self, request_id: int) -> None:
        """Forget a request at once; an unknown one is ignored."""
        if request_id in self._batch.live:
            self._leave(request_id)
        else:
            self._waiting = deque(each for each in self._waiting if each.request_id != request_id)

    def forget_voice(self, key: str) -> None:
        """Drop what was computed for a voice. Requests that speak with it go on."""
        self._prefixes.forget(key)

    @torch.inference_mode()
    def release_caches(self) -> None:
        """Give back the memory that live requests do not need. Graphs keep theirs."""
        self._prefixes.clear()
        self._cache.fit(self._batch.longest)

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Admit waiting requests, then give every live one its next token."""
        if self.idle:
            return []
        decoding = self._cache.rows
        prefilled = self._admit()
        ids = self._batch.choose(self._logits(decoding, prefilled), self._draw)
        tokens = []
        # The only place where the host waits for the device.
        for request_id, token in zip(list(self._batch.live), ids.tolist(), strict=True):
            live = self._batch.live[request_id]
            live.generated += 1
            stopped = token == STOP_SPEECH
            last = stopped or live.generated == live.max_tokens
            tokens.append(Token(request_id, None if stopped else token, last))
            if last:
                self._leave(request_id)
        return tokens

    def _check(self, prompt: Prompt, max_tokens: int) -> None:
        config, ids, voice = self._t3.config, prompt.text_ids, prompt.voice
        if not ids:
            raise ValueError("the text has no tokens")
        if min(ids) < 0 or max(ids) >= config.text_ids:
            raise ValueError(f"the text has token ids outside of 0 to {config.text_ids - 1}")
        if max_tokens < 1:
            raise ValueError("at least one speech token must be allowed")
        if config.text_positions is not None and len(ids) > config.text_positions:
            raise ValueError(f"the text has {len(ids)} tokens where {config.text_positions} are the most")
        if config.speech_positions is not None and max_tokens > config.speech_positions:
            raise ValueError(f"{max_tokens} speech tokens are asked for where {config.speech_positions} are the most")
        count = len(voice.t3_tokens)
        if config.positions is not None:
            # The last token is never fed back, so the start of speech takes its place in the sum.
            room = config.positions - config.prefix_length(count) - max_tokens
            if len(ids) > room:
                raise ValueError(f"the text has {len(ids)} tokens where there is room for {max(room, 0)}")
        if config.resampled is not None and not 0 < count <= (config.speech_positions or count):
            raise ValueError(f"the voice has {count} prompt tokens, 1 to {config.speech_positions} are wanted")

    def _admit(self) -> list[Tensor]:
        """Compute the prompts of waiting requests; gives the last hidden state of their rows in order."""
        budget = PREFILLS_PER_STEP
        admitted: list[tuple[Live, KeyValueCache]] = []
        while self._waiting and budget > 0 and self._batch.free:
            head = self._waiting[0]
            prefix = self._prefixes.get(head.prompt.voice_key)
            if prefix is None:
                if admitted:
                    break
                prefix = self._prefix(head.prompt)
                budget -= 1
            rows = 2 if self._guided and head.sampling.cfg_weight != 0 else 1
            first = self._cache.append(rows)
            self._waiting.popleft()
            live = Live(
                request_id=head.request_id,
                prompt=head.prompt,
                sampling=head.sampling,
                max_tokens=head.max_tokens,
                rows=list(range(first, first + rows)),
                stream=stream_start(head.sampling.seed),
            )
            self._batch.join(live)
            admitted.append((live, prefix))
            budget -= 1
        return self._prefill(admitted)

    def _prefix(self, prompt: Prompt) -> KeyValueCache:
        embedded = self._t3.prefix(prompt.voice)[None]
        length = embedded.shape[1]
        entry = self._t3.cache(1)
        first = entry.append(1)
        entry.fit(length)
        self._t3.forward(embedded, entry, Span.prompt(first, 1, 0, length, self._t3.device))
        self._prefixes.put(prompt.voice_key, entry)
        return entry

    def _prefill(self, admitted: Sequence[tuple[Live, KeyValueCache]]) -> list[Tensor]:
        hidden = []
        start = 0
        while start < len(admitted):
            # Prompts go together when their prefixes are of one length.
            length = admitted[start][1].position_capacity
            end = start + 1
            while end < len(admitted) and admitted[end][1].position_capacity == length:
                end += 1
            hidden.append(self._prefill_together(admitted[start:end], length))
            start = end
        return hidden

    def _prefill_together(self, group: Sequence[tuple[Live, KeyValueCache]], prefix_length: int) -> Tensor:
        t3 = self._t3
        embedded, counts = [], []
        for live, _ in group:
            make = t3.guided_prompt if len(live.rows) == 2 else t3.prompt
            embedded.append(make(live.prompt.text_ids, live.prompt.exaggeration))
            counts += [embedded[-1].shape[1]] * len(live.rows)
        longest = max(counts)
        self._cache.reserve(prefix_length + longest)
        for live, prefix in group:
            for row in live.rows:
                self._cache.paste(row, prefix)
        padded = torch.cat([functional.pad(each, (0, 0, 0, longest - each.shape[1])) for each in embedded])
        first = group[0][0].rows[0]
        span = Span.prompt(first, len(padded), prefix_length, longest, t3.device)
        hidden = t3.forward(padded, self._cache, span)
        for (live, _), each in zip(group, embedded, strict=True):
            live.length = prefix_length + each.shape[1]
        rows = torch.arange(len(padded), device=t3.device)
        return hidden[rows, torch.tensor(counts, device=t3.device) - 1]

    def _logits(self, decoding: int, prefilled: list[Tensor]) -> Tensor:
        """``[rows or more, ids]``: the first ``decoding`` rows are fed a token, the others have been ``prefilled``."""
        if not decoding:
            return self._t3.logits(torch.cat(prefilled))
        pending = self._batch.pending(decoding)
        self._cache.settle(self._batch.longest + 1)
        logits = self._graphs.step(pending) if self._graphs else None
        if logits is None:
            logits = self._t3.logits(torch.cat([self._advance(pending), *prefilled]))
        elif prefilled:
            logits = torch.cat((logits[:decoding], self._t3.logits(torch.cat(prefilled))))
        self._batch.fed(decoding)
        return logits

    def _advance(self, pending: Pending) -> Tensor:
        """Feed the first rows their requests' latest tokens; gives their hidden states ``[rows, width]``."""
        t3 = self._t3
        fed = torch.tensor((pending.slots, pending.numbers, pending.lengths)).to(t3.device, non_blocking=True)
        slots, numbers, positions = fed.unbind()
        self._cache.reserve(max(pending.lengths) + 1)
        embedded = t3.speech(self._batch.latest[slots], numbers)
        return t3.forward(embedded, self._cache, Span.token(pending.lengths, positions))[:, 0]

    @torch.inference_mode()
    def _leave(self, request_id: int) -> None:
        live = self._batch.leave(request_id)
        for row in sorted(live.rows, reverse=True):
            self._cache.remove(row, self._batch.remove_row(row))
