"""Continuous batching: requests join and leave between steps, and every live one gets a token per step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..device import Capturer, CudaCapturer
from ..interfaces import AcousticModel, Cache
from .batch import Batch, Pending, Prefixes, SampledTokens
from .cache import KeyValueCache, Span
from .config import STOP_SPEECH, Prompt, check
from .cuda_graphs import Graphs
from .sampling import DecodingRequest, Draw, Sampling, stream_start

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
    step as CUDA graphs. With ``ahead``, as on a GPU, the tokens of a step come out of the next one, so that the device
    never waits for the host to read them. An exception out of ``step`` (memory) leaves the requests without tokens of
    that step: drop them all.
    """

    def __init__(
        self,
        t3: AcousticModel,
        *,
        slots: int,
        draw: Draw | None = None,
        prefix_bytes: int = PREFIX_BYTES,
        graphs: bool = True,
        ahead: bool | None = None,
    ) -> None:
        self._t3 = t3
        self._graphs_allowed = graphs
        self._graphs: Graphs | None = None
        self._ahead = t3.device.type == "cuda" if ahead is None else ahead
        self._unread: SampledTokens | None = None
        self._guided = t3.config.guided
        self._waiting: deque[_Waiting] = deque()
        self._cache = t3.cache(slots * (2 if self._guided else 1))
        self._prefixes = Prefixes(prefix_bytes)
        self._batch = Batch(t3.config, slots, t3.device, draw)

    @property
    def t3(self) -> AcousticModel:
        """The model that it decodes with."""
        return self._t3

    @property
    def idle(self) -> bool:
        """Whether ``step`` has nothing to do."""
        return not self._waiting and not self._batch.live

    @property
    def full(self) -> bool:
        """Whether all slots are taken."""
        return not self._batch.free

    def holds(self, request_id: int) -> bool:
        """Whether a request has a slot."""
        return request_id in self._batch.live

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
        if capturer is None or not self._graphs_allowed or self._graphs is not None:
            return
        if isinstance(self._cache, KeyValueCache):
            self._graphs = Graphs.prepare(self._t3, self._cache, self._batch.latest, capturer)

    def add(self, request_id: int, prompt: Prompt, sampling: Sampling, max_tokens: int) -> None:
        """Take a request in, of at most ``max_tokens`` tokens.

        Raises ``ValueError``, whose message says what is wrong with it.
        """
        if request_id in self._batch.live or any(request_id == each.request_id for each in self._waiting):
            raise ValueError(f"request {request_id} is being decoded")
        check(self._t3.config, prompt, max_tokens)
        self._waiting.append(_Waiting(request_id, prompt, sampling, max_tokens))

    def drop(self, request_id: int) -> None:
        """Forget a request at once; an unknown one is ignored."""
        if request_id in self._batch.live:
            self._leave(request_id)
        else:
            self._waiting = deque(each for each in self._waiting if each.request_id != request_id)

    def forget_voice(self, key: str) -> None:
        """Drop what was computed for a voice. Requests that use it go on."""
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
        tokens: list[Token] = []
        if self._unread is not None and self._unread.ends_one:
            tokens, self._unread = self._read(self._unread), None
        if self.idle:
            return tokens
        sampled: SampledTokens | None = self._begin_step()
        if self._ahead:
            sampled, self._unread = self._unread, sampled
        return tokens if sampled is None else [*tokens, *self._read(sampled)]

    def _begin_step(self) -> SampledTokens:
        """Begin a step; what it gives is read later."""
        decoding = self._cache.rows
        prefilled = self._admit()
        ids = self._batch.sample(self._logits(decoding, prefilled))
        lives = list(self._batch.live.values())
        for live in lives:
            live.generated += 1
        return SampledTokens(lives, ids)

    def _read(self, sampled: SampledTokens) -> list[Token]:
        """The tokens of those who are still there."""
        tokens = []
        for live, token, limited in sampled.read():
            if self._batch.live.get(live.request_id) is not live:
                continue
            stopped = token == STOP_SPEECH
            last = stopped or limited
            tokens.append(Token(live.request_id, None if stopped else token, last))
            if last:
                self._leave(live.request_id)
        return tokens

    def _admit(self) -> list[Tensor]:
        """Compute the prompts of waiting requests; gives the last hidden state of their rows in order."""
        budget = PREFILLS_PER_STEP
        admitted: list[tuple[DecodingRequest, Cache]] = []
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
            live = DecodingRequest(
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

    def _prefix(self, prompt: Prompt) -> Cache:
        embedded = self._t3.prefix(prompt.voice)[None]
        length = embedded.shape[1]
        entry = self._t3.cache(1)
        first = entry.append(1)
        entry.fit(length)
        self._t3.forward(embedded, entry, Span.prompt(first, 1, 0, length, self._t3.device))
        self._prefixes.put(prompt.voice_key, entry)
        return entry

    def _prefill(self, admitted: Sequence[tuple[DecodingRequest, Cache]]) -> list[Tensor]:
        hidden = []
        start = 0
        while start < len(admitted):
            # Prompts go together when their prefixes are of one length.
            length = self._prefix_length(admitted[start][0].prompt)
            end = start + 1
            while end < len(admitted) and self._prefix_length(admitted[end][0].prompt) == length:
                end += 1
            hidden.append(self._prefill_together(admitted[start:end], length))
            start = end
        return hidden

    def _prefix_length(self, prompt: Prompt) -> int:
        return self._t3.config.prefix_length(len(prompt.voice.t3_tokens))

    def _prefill_together(self, group: Sequence[tuple[DecodingRequest, Cache]], prefix_length: int) -> Tensor:
        t3 = self._t3
        embedded, counts = [], []
        for live, _ in group:
            prompt, guided = live.prompt, len(live.rows) == 2
            embedded.append(t3.prompt(prompt.text_ids, prompt.exaggeration, guided=guided))
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
            hidden = self._advance(pending)
            logits = self._t3.logits(torch.cat([hidden, *prefilled]) if prefilled else hidden)
        elif prefilled:
            logits = torch.cat((logits[:decoding], self._t3.logits(torch.cat(prefilled))))
        self._batch.fed(decoding)
        return logits

    def _advance(self, pending: Pending) -> Tensor:
        """Feed the first rows their requests' latest tokens; gives their hidden states ``[rows, width]``."""
        t3 = self._t3
        fed = torch.from_numpy(np.array((pending.slots, pending.numbers, pending.lengths)))
        slots, numbers, positions = fed.to(t3.device, non_blocking=True).unbind()
        self._cache.reserve(max(pending.lengths) + 1)
        embedded = t3.speech(self._batch.latest.index_select(0, slots), numbers)
        return t3.advance(embedded, self._cache, pending.lengths, positions)

    @torch.inference_mode()
    def _leave(self, request_id: int) -> None:
        live = self._batch.leave(request_id)
        for row in sorted(live.rows, reverse=True):
            self._cache.remove(row, self._batch.remove_row(row))
