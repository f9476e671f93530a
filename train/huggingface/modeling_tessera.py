"""Audio encoder that Tessera trained or imported: log-mel front end, ViT, chunks, pooling.

`TesseraModel` is for `transformers.AutoModel`, `TesseraEncoder` for X-ARES, `TesseraMteb` for MTEB
(MAEB). All take mono audio; the embedding of a clip is `pooler_output`. MIT licence.
"""

import math
import os
from typing import NamedTuple, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

SAMPLE_RATE, FRAME, HOP, MEL_BANDS = 16000, 400, 160, 80
HERE = os.path.dirname(os.path.abspath(__file__))


class TesseraConfig(PretrainedConfig):
    model_type = "tessera"

    def __init__(
        self,
        system="matpac",
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=(16, 16),
        chunk_frames=608,
        class_token=True,
        positions=191,
        framing="inside",
        pool="mean",
        blocks=None,
        mean=-7.056,
        std=4.193,
        **kwargs,
    ):
        self.system = system
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.patch_size = list(patch_size)  # mel bands, frames of 10 ms
        self.chunk_frames = chunk_frames  # longer clips are cut into chunks of so many frames
        self.class_token = class_token
        self.positions = positions  # rows of the position table
        self.framing = framing  # "centred": frames around multiples of 160, ends mirrored
        self.pool = pool  # of a clip's steps: mean, max or mean-std, the deviation behind the mean
        self.blocks = blocks  # put side by side, 0 for what enters the first; None for the last one
        self.mean, self.std = mean, std  # of log-mel values, which are standardised with them
        super().__init__(**kwargs)


def mel_filters(dtype: torch.dtype) -> torch.Tensor:
    """[201, 80] triangles of area 1 on Slaney's mel scale, 50 to 8000 Hz, rounded as `dtype`."""
    step = math.log(6.4) / 27  # above 1 kHz, which is mel 15
    top = 15 + math.log(8000 / 1000) / step
    mel = torch.linspace(50 * 3 / 200, top, MEL_BANDS + 2, dtype=dtype)
    hertz = torch.where(mel < 15, mel * (200 / 3), 1000 * (step * (mel - 15)).exp())
    bins = torch.linspace(0, SAMPLE_RATE / 2, FRAME // 2 + 1, dtype=dtype)[:, None]
    left, centre, right = hertz[:-2], hertz[1:-1], hertz[2:]
    slopes = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return (slopes.clamp(min=0) * (2 / (right - left))).float()


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Output(NamedTuple):
    """`size` values a step: the bands' side by side, low ones first."""

    last_hidden_state: torch.Tensor  # [clips, steps, size], zeros behind a shorter clip's steps
    pooler_output: torch.Tensor  # [clips, as many times size as pooling and blocks make it]
    hidden_states: Optional[Tuple[torch.Tensor, ...]] = None  # of each block; the last one's normed


class TesseraModel(PreTrainedModel):
    config_class = TesseraConfig
    main_input_name = "input_values"

    def __init__(self, config: TesseraConfig):
        super().__init__(config)
        width = config.hidden_size
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.positions, width), requires_grad=False)
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(1, width, tuple(config.patch_size), tuple(config.patch_size))}
        )
        blocks = [
            Block(width, config.num_attention_heads) for _ in range(config.num_hidden_layers)
        ]
        self.student_encoder = nn.ModuleDict(
            {"blocks": nn.ModuleList(blocks), "norm": nn.LayerNorm(width, eps=1e-6)}
        )
        # Not buffers: what is not in the file would not survive `from_pretrained`.
        self._tables = {}
        self.post_init()

    def _init_weights(self, module):
        pass

    @property
    def output_dim(self) -> int:
        return MEL_BANDS // self.config.patch_size[0] * self.config.hidden_size

    def log_mel(self, waves: torch.Tensor) -> torch.Tensor:
        """[clips, samples] to [clips, 80, frames], standardised; frames lie inside the signal."""
        exact = torch.float32 if waves.device.type == "mps" else torch.float64
        if waves.device not in self._tables:
            # As torchaudio (MATPAC) and nnAudio (M2D, MSM-MAE) round their tables.
            dtype = torch.float32 if self.config.framing == "inside" else torch.float64
            tables = torch.hann_window(FRAME, dtype=dtype).float(), mel_filters(dtype)
            self._tables[waves.device] = [it.to(exact).to(waves.device) for it in tables]
        window, filters = self._tables[waves.device]
        frames = waves.to(exact).unfold(-1, FRAME, HOP) * window
        log = (torch.fft.rfft(frames).abs() ** 2 @ filters + 2**-23).log()
        return ((log - self.config.mean) / self.config.std).transpose(1, 2)

    def encode(self, chunk: torch.Tensor) -> list:
        """[clips, 80, frames] to what enters the first block and to each block's output, [clips,
        steps, size]; positions of a shorter one are those of the table's first columns."""
        (bands, frames), width = self.config.patch_size, self.config.hidden_size
        rows, columns = MEL_BANDS // bands, self.config.chunk_frames // frames
        # What is missing to a whole patch is the mean.
        chunk = F.pad(chunk, (0, -chunk.shape[-1] % frames))
        x = self.patch_embed["proj"](chunk[:, None].to(self.pos_embed.dtype))
        steps = x.shape[-1]
        table = self.pos_embed[:, -rows * columns :].view(1, rows, columns, width)
        x = (x.permute(0, 2, 3, 1) + table[:, :, :steps]).flatten(1, 2)
        if self.config.class_token:
            token = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat([token.expand(len(x), -1, -1), x], 1)
        outputs = [x]
        for block in self.student_encoder["blocks"]:
            x = block(x)
            outputs.append(x)
        outputs[-1] = self.student_encoder["norm"](x)
        patches = [it[:, -rows * steps :].view(len(x), rows, steps, width) for it in outputs]
        return [it.transpose(1, 2).flatten(2) for it in patches]

    def embed(self, waves: torch.Tensor) -> list:
        """[clips, samples] of one length to what `encode` gives of their chunks in a row."""
        pad = FRAME // 2 if self.config.framing == "centred" else 0
        if pad:
            # Mirroring needs more samples than it adds.
            waves = F.pad(waves, (0, max(0, pad + 1 - waves.shape[1])))
            waves = F.pad(waves[:, None], (pad, pad), mode="reflect")[:, 0]
        waves = F.pad(waves, (0, max(0, FRAME - waves.shape[1])))
        total, length = 1 + (waves.shape[1] - FRAME) // HOP, self.config.chunk_frames
        chunks = []
        for first in range(0, total, length):
            last = min(first + length, total) - 1
            chunks.append(self.encode(self.log_mel(waves[:, first * HOP : last * HOP + FRAME])))
        return [torch.cat(layer, 1) for layer in zip(*chunks)]

    def pool(self, steps: torch.Tensor) -> torch.Tensor:
        if self.config.pool == "max":
            return steps.amax(0)
        if self.config.pool == "mean-std":
            return torch.cat([steps.mean(0), steps.std(0, unbiased=False)])
        return steps.mean(0)

    def forward(
        self, input_values, attention_mask=None, output_hidden_states=False, **_
    ) -> Output:
        """`input_values` [clips, samples], 16 kHz, in [-1, 1]; `attention_mask` is 1 on a clip and
        0 on what fills it up. A clip's embedding is that which it has alone."""
        counts = [input_values.shape[1]] * len(input_values)
        if attention_mask is not None:
            counts = [max(1, int(it)) for it in attention_mask.sum(-1)]
        clips = [None] * len(counts)
        for count in set(counts):
            rows = [i for i, it in enumerate(counts) if it == count]
            layers = torch.stack(self.embed(input_values[rows, :count]), 1)
            for i, clip in zip(rows, layers):
                clips[i] = clip
        steps = max(clip.shape[1] for clip in clips)
        shown = [it[1 if output_hidden_states else -1 :] for it in clips]
        padded = torch.stack([F.pad(it, (0, 0, 0, steps - it.shape[1])) for it in shown], 1)
        blocks = self.config.blocks or [-1]
        pooled = torch.stack([torch.cat([self.pool(it[k]) for k in blocks]) for it in clips])
        return Output(padded[-1], pooled, tuple(padded) if output_hidden_states else None)


class TesseraEncoder(nn.Module):
    """What X-ARES asks for: [clips, samples] to [clips, steps, output_dim]."""

    def __init__(self, folder: str = HERE):
        super().__init__()
        self.model = TesseraModel.from_pretrained(folder).eval()
        self.sampling_rate = SAMPLE_RATE
        self.output_dim = self.model.output_dim
        self.hop_size_in_ms = self.model.config.patch_size[1] * HOP * 1000 // SAMPLE_RATE

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        audio = audio[None] if audio.ndim == 1 else audio
        with torch.inference_mode():
            return self.model(audio.to(self.model.pos_embed.device)).last_hidden_state


def resample(wave: torch.Tensor, rate: int) -> torch.Tensor:
    """[samples] at any rate to 16 kHz: windowed sinc, Kaiser window, as `torchaudio` at its best
    (64 zero crossings, rolloff 0.9476, beta 14.77)."""
    if rate == SAMPLE_RATE:
        return wave
    common = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // common, SAMPLE_RATE // common
    base, beta = min(old, new) * 0.9475937167399596, torch.tensor(14.769656459379492).double()
    width = math.ceil(64 * old / base)
    phase = torch.arange(new, dtype=torch.float64)[:, None] / new
    taps = torch.arange(-width, width + old, dtype=torch.float64) / old
    t = ((taps - phase) * base).clamp(-64, 64)
    window = torch.i0(beta * (1 - (t / 64) ** 2).sqrt()) / torch.i0(beta)
    kernel = torch.sinc(t) * window * base / old
    padded = F.pad(wave, (width, width + old))[None, None]
    out = F.conv1d(padded, kernel[:, None].to(wave), stride=old)[0]
    return out.t().flatten()[: math.ceil(new * len(wave) / old)]


class TesseraMteb:
    """What MTEB (MAEB) asks for: batches of `audio`, each with `array` and `sampling_rate`, to
    [clips, size]."""

    mteb_model_meta = None

    def __init__(self, model_name: str = HERE, revision=None, device=None, **_):
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = TesseraModel.from_pretrained(model_name).eval().to(device)

    def encode(self, inputs, **kwargs):
        return self.get_audio_embeddings(inputs, **kwargs)

    def get_audio_embeddings(self, inputs, **_):
        if hasattr(inputs, "collate_fn"):
            inputs.collate_fn = list  # rows as they are: clips differ in length and rate
        found = []
        for batch in inputs:
            rows = batch["audio"] if isinstance(batch, dict) else [row["audio"] for row in batch]
            waves = []
            for row in rows:
                wave = torch.as_tensor(row["array"]).float()
                wave = wave.mean(0) if wave.ndim > 1 else wave
                waves.append(resample(wave, int(row["sampling_rate"])))
            counts = torch.tensor([len(wave) for wave in waves])
            mask = torch.arange(max(counts))[None] < counts[:, None]
            padded = nn.utils.rnn.pad_sequence(waves, batch_first=True)
            with torch.inference_mode():
                output = self.model(padded.to(self.model.pos_embed.device), mask)
            found.append(output.pooler_output.float().cpu())
        return torch.cat(found).numpy()

    def similarity(self, a, b):
        a, b = (F.normalize(torch.as_tensor(it), dim=-1) for it in (a, b))
        return a @ b.T

    def similarity_pairwise(self, a, b):
        return F.cosine_similarity(torch.as_tensor(a), torch.as_tensor(b), dim=-1)
