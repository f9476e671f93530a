"""Embeds waveforms with the code of exported folders. One line of JSON on standard input:
{"folders": [...], "waves": [{"path", "rate"}], "out"}; waves are raw float32. Writes each folder's
results to out/FOLDER_INDEX.WHAT.WAVE, raw float32, and prints attributes of the X-ARES class."""

import importlib.util
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import torch  # noqa: E402


class Loader(list):
    """Rows of one batch, as a DataLoader whose `collate_fn` is set gives them."""

    collate_fn = None

    def __iter__(self):
        yield self.collate_fn(list.__iter__(self))


def main():
    request = json.loads(sys.stdin.read())
    waves, rates = [], [it["rate"] for it in request["waves"]]
    for it in request["waves"]:
        with open(it["path"], "rb") as file:
            waves.append(torch.frombuffer(bytearray(file.read()), dtype=torch.float32))
    attributes = []
    for i, folder in enumerate(request["folders"]):
        path = os.path.join(folder, "modeling_tessera.py")
        spec = importlib.util.spec_from_file_location(f"exported_{i}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = [name for name in dir(module) if name.endswith("Encoder")]
        if len(found) != 1:
            raise RuntimeError(f"X-ARES takes the one name that ends with Encoder, not {found}")

        def write(what, wave, tensor):
            path = os.path.join(request["out"], f"{i}.{what}.{wave}")
            with open(path, "wb") as file:
                file.write(tensor.contiguous().numpy().tobytes())

        encoder = getattr(module, found[0])()
        names = ["sampling_rate", "output_dim", "hop_size_in_ms"]
        attributes.append({name: getattr(encoder, name) for name in names})
        own = [w for w, (wave, rate) in enumerate(zip(waves, rates)) if rate == 16000]
        padded = torch.nn.utils.rnn.pad_sequence([waves[w] for w in own], batch_first=True)
        counts = torch.tensor([len(waves[w]) for w in own])
        mask = (torch.arange(padded.shape[1])[None] < counts[:, None]).long()
        with torch.no_grad():
            together = encoder.model(padded, attention_mask=mask, output_hidden_states=True)
        for row, w in enumerate(own):
            write("frames", w, encoder(waves[w][None])[0])
            write("pooled", w, together.pooler_output[row])
            steps = encoder(waves[w]).shape[1]
            if together.last_hidden_state[row, steps:].abs().sum() != 0:
                raise RuntimeError("there is something behind the steps of a shorter clip")
            layers = [it[row, :steps].mean(0) for it in together.hidden_states]
            write("layers", w, torch.stack(layers))
        mteb = module.TesseraMteb(folder, device="cpu")
        rows = [
            {"audio": {"array": wave.numpy(), "sampling_rate": rate}}
            for wave, rate in zip(waves, rates)
        ]
        embeddings = torch.as_tensor(mteb.encode(Loader(rows), task_metadata=None))
        for w, embedding in enumerate(embeddings):
            write("mteb", w, embedding)
        similarity = mteb.similarity(embeddings, embeddings)
        pairs = mteb.similarity_pairwise(embeddings, embeddings)
        if (similarity.diagonal() - 1).abs().max() > 1e-5 or (pairs - 1).abs().max() > 1e-5:
            raise RuntimeError("an embedding is not similar to itself")
    print(json.dumps(attributes))


main()
