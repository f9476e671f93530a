/**
 * The view of one sound: what a model sees in it, what it is called, what is near to it.
 *
 * @module
 */
import { h, type JSX, useEffect, useRef, useState } from "../../deps/preact.ts";
import type { NearestAnswer, Overview, PaintedAnswer, SoundAnswer } from "../api.ts";
import { Spectrogram } from "./attention.ts";
import { address, AnswerError, askJson } from "./client.ts";
import { isServers, listenHere, pageAdapter, type SeenHere } from "./compute.ts";
import { Choice, Note, useAnswer } from "./elements.ts";
import { clipAddress, useModel, usePlayer } from "./map.ts";
import { Raster } from "./raster.ts";
import { asWav, record, type Recording } from "./record.ts";
import { colourAt, VIRIDIS } from "../../visualize/colours.ts";

interface Chosen {
  readonly name: string;
  readonly file: Blob;
}

/** A sound looked at; decoded by the browser where the server cannot. */
async function look({ file }: Chosen, model: string, signal: AbortSignal): Promise<SoundAnswer> {
  const post = (body: Blob) =>
    askJson<SoundAnswer>(address("api/listen", { model }), { method: "POST", body, signal });
  try {
    return await post(file);
  } catch (error) {
    // 415: no audio that the server knows.
    if (!(error instanceof AnswerError && error.status === 415)) throw error;
    const wav = await asWav(file).catch(() => undefined);
    if (!wav) throw error;
    return await post(wav);
  }
}

/** The path of embeddings along two components, coloured by time, and both over time. */
function Path({ sound, time }: {
  readonly sound: SoundAnswer;
  readonly time: number | undefined;
}): JSX.Element {
  const { path } = sound;
  if (!path) {
    return h(
      "p",
      { class: "empty" },
      "The sound has fewer than three time steps: there is no path.",
    );
  }
  const { points, shares, times, step } = path;
  const plane = points.map((it) => [it[0] ?? 0, it[1] ?? 0]);
  const extent = (values: readonly number[]) => [Math.min(...values), Math.max(...values)];
  const [[left, right], [low, high]] = [0, 1].map((i) => extent(plane.map((it) => it[i])));
  const [width, height, room] = [520, 300, 14];
  const scale = Math.max(
    (right - left) / (width - 2 * room),
    (high - low) / (height - 2 * room),
    1e-9,
  );
  const at = ([x, y]: readonly number[]) => [
    width / 2 + (x - (left + right) / 2) / scale,
    height / 2 - (y - (low + high) / 2) / scale,
  ];
  const now = time === undefined
    ? -1
    : times.findLastIndex((it) => it <= time && time < it + Math.max(step, 1));
  const share = (i: number) => times.length > 1 ? i / (times.length - 1) : 0;
  return h(
    "div",
    {},
    h(
      "svg",
      {
        ...{ viewBox: `0 0 ${width} ${height}`, class: "path", role: "img" },
        "aria-label": `Path of ${points.length} embeddings along two principal components`,
      },
      h("polyline", {
        points: plane.map((it) => at(it).map((v) => v.toFixed(1)).join(",")).join(" "),
        ...{ fill: "none", stroke: "var(--faint)", "stroke-opacity": 0.5 },
      }),
      plane.map((it, i) => {
        const [cx, cy] = at(it);
        return h(
          "circle",
          {
            ...{ key: i, cx, cy, r: i === now ? 8 : 4.5, fill: colourAt(VIRIDIS, share(i)) },
            ...{ stroke: "var(--ink)", "stroke-width": i === now ? 2 : 0.6 },
          },
          h("title", {}, `${times[i].toFixed(2)} s`),
        );
      }),
    ),
    h(
      "p",
      { class: "about" },
      `${points.length} steps of ${
        step.toFixed(2)
      } s from dark (start) to yellow (end); across and ` +
        `up are principal components with ${
          shares.slice(0, 2).map((it) => `${(100 * it).toFixed(0)}\u00a0%`).join(" and ")
        } ` +
        "of the variance.",
    ),
  );
}

function Labels({ sound, time }: {
  readonly sound: SoundAnswer;
  readonly time: number | undefined;
}): JSX.Element | null {
  const { labels } = sound;
  if (!labels) return null;
  const { classes, values, times, window } = labels;
  return h(
    "section",
    { class: "card over-time", "aria-label": "Labels over time" },
    h("h2", {}, "Labels over time"),
    h(
      "div",
      { class: "labels" },
      classes.map((label, k) =>
        h(
          "div",
          { class: "label-row", key: label },
          h("span", { class: "name", title: label }, label),
          h(
            "div",
            {
              class: "strip",
              role: "img",
              "aria-label": `${label}: up to ${(100 * Math.max(...values[k])).toFixed(0)} %`,
            },
            values[k].map((it, i) =>
              h("i", {
                key: i,
                style: `height:${(100 * it).toFixed(1)}%`,
                title: `${label} at ${times[i].toFixed(2)} s: ${(100 * it).toFixed(0)} %`,
              })
            ),
            time === undefined ? null : h("div", {
              class: "head",
              style: `left:${Math.min(100, 100 * time / sound.length).toFixed(2)}%`,
            }),
          ),
          h("span", { class: "number" }, `${(100 * Math.max(...values[k])).toFixed(0)} %`),
        )
      ),
    ),
    h(
      "p",
      { class: "about" },
      `What the probe says of windows of ${
        Number(window.toFixed(2))
      } s; the number is the largest. The probe ` +
        "was trained on whole clips.",
    ),
  );
}

function Nearest({ sound, model, here }: {
  readonly sound: SoundAnswer;
  readonly model: string;
  /** Where the page has computed. */
  readonly here: SeenHere | undefined;
}): JSX.Element {
  const { value, error, busy } = useAnswer(
    () =>
      here
        ? askJson<NearestAnswer>(address("api/near", { model, key: here.key }), {
          method: "POST",
          body: here.embedding as Float32Array<ArrayBuffer>,
        })
        : askJson<NearestAnswer>(address("api/nearest", { id: sound.id })),
    [sound],
  );
  const [playing, play] = usePlayer();
  return h(
    "section",
    { class: "card", "aria-label": "Nearest sounds", "aria-busy": busy },
    h("h2", {}, "Nearest sounds of the collection"),
    error ? h(Note, { kind: "error" }, error) : null,
    busy && !value
      ? h("p", { class: "about", role: "status" }, "embedding the collection, the first time …")
      : null,
    h(
      "ul",
      { class: "sounds" },
      value?.clips.map((clip) =>
        h(
          "li",
          { key: clip.n },
          h("button", {
            ...{ type: "button", "aria-label": `Play ${clip.name}` },
            "aria-pressed": playing === clipAddress(clip.n),
            onClick: () => play(clipAddress(clip.n)),
          }, playing === clipAddress(clip.n) ? "◼" : "▶"),
          h("span", { class: "name", title: clip.name }, clip.name),
          h("span", { class: "about" }, clip.labels.join(", ")),
          h("span", { class: "number" }, clip.similarity.toFixed(3)),
        )
      ),
    ),
    value ? h("p", { class: "about" }, "Numbers are cosines of mean embeddings.") : null,
  );
}

function Painted({ sound, here }: {
  readonly sound: SoundAnswer;
  /** Where the page has computed. */
  readonly here: SeenHere | undefined;
}): JSX.Element {
  const [seed, setSeed] = useState(0);
  const { value, error, busy } = useAnswer(
    () =>
      here?.painted(seed) ??
        askJson<PaintedAnswer>(address("api/painted", { id: sound.id, seed })),
    [sound, seed],
  );
  const players = [
    "the chunk as it was recorded",
    "what its log-mel spectrogram keeps",
    "the reconstruction",
  ];
  return h(
    "section",
    { class: "card", "aria-label": "Reconstruction", "aria-busy": busy },
    h(
      "div",
      { class: "tools" },
      h("h2", {}, "Reconstruction"),
      h(
        "button",
        { type: "button", disabled: busy, onClick: () => setSeed(seed + 1) },
        "Another mask",
      ),
      busy ? h("span", { class: "about", role: "status" }, "computing …") : null,
    ),
    error ? h(Note, { kind: "error" }, error) : null,
    value
      ? h(
        "div",
        {},
        h("p", { class: "about" }, value.words),
        h(
          "div",
          { class: "clips" },
          h(
            "figure",
            {},
            h("figcaption", {}, "what the encoder sees"),
            h(Raster, {
              ...{ picture: value.input, mask: value.mask, grid: value.grid, masked: true },
              label: "The chunk without hidden patches",
            }),
          ),
          h(
            "figure",
            {},
            h("figcaption", {}, "what it makes of it"),
            h(Raster, { picture: value.painted, label: "Hidden patches painted" }),
          ),
          h(
            "figure",
            {},
            h("figcaption", {}, "the chunk"),
            h(Raster, { picture: value.input, label: "The chunk" }),
          ),
        ),
        h(
          "div",
          { class: "players" },
          players.map((words, n) =>
            h(
              "figure",
              { key: value.sounds[n] },
              h("figcaption", {}, words),
              h("audio", {
                ...{ controls: true, preload: "none", "aria-label": words },
                src: value.sounds[n],
              }),
            )
          ),
        ),
        h("p", { class: "about" }, "Phases of the second and third are guessed (Griffin-Lim)."),
      )
      : null,
  );
}

/** What was seen in a sound, and by whom. */
interface Found {
  readonly sound: SoundAnswer;
  /** Where the page has computed. */
  readonly here?: SeenHere;
  /** Why it has not, though it was to. */
  readonly reason?: string;
}

function Sound({ chosen, model, overview, adapter }: {
  readonly chosen: Chosen;
  readonly model: string;
  readonly overview: Overview;
  /** The page's, in words, where the page is to compute. */
  readonly adapter: string | undefined;
}): JSX.Element {
  const [stage, setStage] = useState("");
  const { value: found, error, busy } = useAnswer<Found>(
    async (signal) => {
      setStage("");
      if (adapter === undefined) return { sound: await look(chosen, model, signal) };
      const words = { name: model || (overview.checkpoint ?? ""), adapter };
      try {
        const here = await listenHere(chosen.file, model, words, setStage);
        return { sound: here.answer, here };
      } catch (error) {
        if (isServers(error)) throw error;
        setStage("by the server: computing");
        const sound = await look(chosen, model, signal);
        return { sound, reason: (error as Error).message };
      }
    },
    [chosen, model, adapter],
  );
  const { sound: value, here, reason } = found ?? {};
  const audio = useRef<HTMLAudioElement | null>(null);
  const [source, setSource] = useState<string | undefined>();
  const [time, setTime] = useState<number | undefined>();
  useEffect(() => {
    const made = URL.createObjectURL(chosen.file);
    setSource(made);
    setTime(undefined);
    return () => URL.revokeObjectURL(made);
  }, [chosen]);
  useEffect(() => {
    let frame = 0;
    const follow = (): void => {
      const it = audio.current;
      if (it && !it.paused) setTime(it.currentTime);
      frame = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(frame);
  }, []);
  const seek = (seconds: number): void => {
    if (audio.current && Number.isFinite(audio.current.duration)) {
      audio.current.currentTime = Math.min(seconds, audio.current.duration);
    }
    setTime(seconds);
  };
  return h(
    "div",
    { class: "column" },
    h(
      "div",
      { class: "card now" },
      h("strong", {}, chosen.name),
      h("audio", { ref: audio, controls: true, src: source, "aria-label": chosen.name }),
      busy ? h("span", { class: "about", role: "status" }, `${stage || "computing"} …`) : null,
      value && !busy
        ? h(
          "span",
          { class: "about" },
          `${value.length.toFixed(2)} s; computed by ${value.by} in ${
            value.seconds.toFixed(1)
          } s ` +
            `with ${value.model}`,
        )
        : null,
    ),
    error && !busy ? h(Note, { kind: "error" }, `${chosen.name}: ${error}`) : null,
    value && error === undefined
      ? [
        h(Spectrogram, {
          ...{ key: `${value.id} ${value.by}`, sound: value, time, onSeek: seek },
          attention: here?.attention,
        }),
        h(
          "div",
          { class: "pair", key: "pair" },
          h(Labels, { sound: value, time }),
          h(
            "section",
            { class: "card", "aria-label": "Embedding over time" },
            h("h2", {}, "Embedding over time"),
            h(Path, { sound: value, time }),
          ),
          overview.collection === null ? null : h(Nearest, {
            ...{ sound: value, model, here },
          }),
        ),
        value.paints ? h(Painted, { key: `painted ${value.id}`, sound: value, here }) : null,
        value.lacking.map((it) => h(Note, { key: it }, it)),
        reason === undefined
          ? null
          : h(Note, { key: "reason", kind: "warning" }, `The page could not compute: ${reason}`),
        overview.probe === null
          ? h(Note, { key: "probe" }, "Labels: start the studio with --probe P (probe --save).")
          : null,
        overview.collection === null
          ? h(Note, { key: "collection" }, "Nearest sounds: start the studio with --collection.")
          : null,
      ]
      : null,
  );
}

/** The view. */
export function Listen({ overview }: { readonly overview: Overview }): JSX.Element {
  const { model, choice } = useModel();
  const [chosen, setChosen] = useState<Chosen | undefined>();
  const [over, setOver] = useState(false);
  const [recording, setRecording] = useState<Recording | undefined>();
  const [problem, setProblem] = useState<string | undefined>();
  const microphone = useRef<Recording | undefined>(undefined);
  // Another view does not record on.
  useEffect(() => () => void microphone.current?.end().catch(() => {}), []);
  const { value: adapter } = useAnswer(pageAdapter, []);
  const [picked, setPicked] = useState<"page" | "server" | undefined>();
  const where = picked ?? (adapter?.fast ? "page" : "server");
  const take = (file: File | undefined): void => {
    if (file) setChosen({ name: file.name, file });
  };
  const toggle = async (): Promise<void> => {
    setProblem(undefined);
    try {
      if (!recording) return setRecording(microphone.current = await record());
      setRecording(microphone.current = undefined);
      setChosen({ name: "recording.wav", file: await recording.end() });
    } catch (error) {
      setProblem(`The microphone cannot be used: ${(error as Error).message}`);
    }
  };
  return h(
    "main",
    {
      class: `listen ${over ? "over" : ""}`,
      onDragOver: (event: DragEvent) => {
        event.preventDefault();
        setOver(true);
      },
      onDragLeave: () => setOver(false),
      onDrop: (event: DragEvent) => {
        event.preventDefault();
        setOver(false);
        take(event.dataTransfer?.files[0]);
      },
    },
    h(
      "div",
      { class: "card controls" },
      choice,
      h(
        "label",
        { class: "file" },
        h("input", {
          type: "file",
          accept: "audio/*,.flac,.opus,.ogg",
          onChange: (event: Event) => take((event.target as HTMLInputElement).files?.[0]),
        }),
        h("span", {}, "Choose a sound"),
      ),
      h("button", {
        ...{ type: "button", class: recording ? "main" : "", "aria-pressed": !!recording },
        onClick: toggle,
      }, recording ? "End recording" : "Record"),
      adapter
        ? h(Choice<"page" | "server">, {
          label: "Who computes",
          options: [["page", "In this page"], ["server", "By the server"]],
          value: where,
          onChange: setPicked,
        })
        : h("span", { class: "about" }, "computed by the server: the browser has no WebGPU"),
      h("span", { class: "about hint" }, "or drop one anywhere"),
    ),
    problem ? h(Note, { kind: "error" }, problem) : null,
    chosen && model !== undefined
      ? h(Sound, {
        ...{ chosen, model, overview },
        adapter: where === "page" ? adapter?.words : undefined,
      })
      : h("p", { class: "empty drop" }, "Drop a sound here."),
  );
}
