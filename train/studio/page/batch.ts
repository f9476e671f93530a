/**
 * A batch of a run: spectrograms, masks, and what was painted.
 *
 * @module
 */
import { h, type JSX, useState } from "../../deps/preact.ts";
import type { BatchAnswer } from "../api.ts";
import { address, askJson } from "./client.ts";
import type { Chosen } from "./curves.ts";
import { Choice, Note, useAnswer } from "./elements.ts";
import { ColourBar, Raster } from "./raster.ts";

/** Clips of a batch that are shown. */
const CLIPS = 4;

function Clips({ answer }: { readonly answer: BatchAnswer }): JSX.Element {
  const { clips, grid, length } = answer;
  const painted = clips.some((it) => it.painted);
  return h(
    "div",
    {},
    h("p", { class: "about" }, answer.words),
    h(
      "div",
      { class: "clips" },
      clips.map((clip, i) =>
        h(
          "figure",
          { key: i },
          h("figcaption", { title: clip.name }, clip.name.split("/").pop()),
          h("div", { class: "label" }, "input"),
          h(Raster, { picture: clip.input, label: `Spectrogram of ${clip.name}` }),
          h("div", { class: "label" }, "what the encoder sees"),
          h(Raster, {
            ...{ picture: clip.input, mask: clip.mask, grid, masked: true },
            label: `The same, ${clip.mask.filter(Boolean).length} of ${clip.mask.length} ` +
              "patches hidden",
          }),
          clip.painted ? h("div", { class: "label" }, "painted") : null,
          clip.painted
            ? h(Raster, { picture: clip.painted, label: "Hidden patches as the model paints them" })
            : null,
        )
      ),
    ),
    h(
      "p",
      { class: "about facts-line" },
      h(ColourBar, { map: "viridis", low: "quiet", high: "loud", words: "each clip by itself" }),
      h(
        "span",
        {},
        `${length.toFixed(2)} s across, 50 to 8000 Hz up (mel)${
          painted ? "; visible patches are the input's" : ""
        }. Computed by ${answer.by} in ${answer.seconds.toFixed(1)} s with ${answer.model}.`,
      ),
    ),
  );
}

/** The batch of one of the chosen runs. */
export function Batch({ chosen }: { readonly chosen: readonly Chosen[] }): JSX.Element {
  const usable = chosen.map(({ run }) => run).filter((it) =>
    it.state === "finished" || it.checkpoint_step !== null
  );
  const [picked, setPicked] = useState<string | undefined>();
  const [number, setNumber] = useState(0);
  const run = usable.find(({ id }) => id === picked) ?? usable[0];
  const { value, error, busy } = useAnswer(
    () =>
      run
        ? askJson<BatchAnswer>(address("api/batch", { run: run.id, number, count: CLIPS }))
        : Promise.resolve(undefined),
    [run?.id, number],
  );
  if (!run) {
    return h("p", { class: "empty" }, "None of the chosen runs has a checkpoint so far.");
  }
  return h(
    "div",
    { class: "batch", "aria-busy": busy },
    h(
      "div",
      { class: "tools" },
      usable.length > 1
        ? h(Choice<string>, {
          label: "Run",
          options: usable.map(({ id, name }) => [id, name] as const),
          value: run.id,
          onChange: setPicked,
        })
        : null,
      h(
        "button",
        { type: "button", disabled: busy, onClick: () => setNumber(number + 1) },
        "Next batch",
      ),
      busy ? h("span", { class: "about", role: "status" }, "computing …") : null,
    ),
    error ? h(Note, { kind: "error" }, error) : null,
    value ? h(Clips, { answer: value }) : null,
  );
}
