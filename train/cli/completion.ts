/**
 * Scripts that make bash, zsh and fish complete `deno task COMMAND`: commands, options, values.
 * They are made of the option tables, say all themselves, and start nothing.
 *
 * A shell completes one program, here `deno` and `npx`; the functions act only behind the word
 * `task` in a folder of this project and otherwise leave the word to what completed it before.
 *
 * @module
 */
import type { Option, OptionTable } from "./option.ts";

/** A command and its options. */
export interface CompletedCommand {
  readonly name: string;
  readonly summary: string;
  readonly options: OptionTable;
}

/** Shells that there is a script for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** Options that every command has. */
const COMMON = { help: "What the command does and its options.", version: "The version." };

/** What follows a name, as all scripts have it. */
interface Entry {
  /** `--out`, or nothing for a value that stands by itself. */
  readonly name: string;
  readonly help: string;
  /** flag: no value. words, file, folder: what is completed. any: a value that nobody can guess. */
  readonly value: "flag" | "words" | "file" | "folder" | "any";
  readonly words: readonly string[];
}

function entryOf(name: string, { positional, help, type }: Option<unknown>): Entry {
  const { kind, completes } = type;
  const isList = Array.isArray(completes);
  return {
    name: positional ? "" : `--${name}`,
    help: help.split(/(?<=[.;:])\s/)[0].replace(/[.;:]$/, ""),
    value: kind === "flag"
      ? "flag"
      : isList
      ? "words"
      : completes === undefined
      ? "any"
      : completes as "file" | "folder",
    words: isList ? completes : [],
  };
}

function entriesOf({ options }: CompletedCommand): Entry[] {
  return [
    ...Object.entries(options).map(([name, it]) => entryOf(name, it)),
    ...Object.entries(COMMON).map(([name, help]): Entry => ({
      ...{ name: `--${name}`, help, value: "flag", words: [] },
    })),
  ];
}

/** Within single quotes, as bash, zsh and fish have them. */
function quoted(text: string, shell: typeof SHELLS[number]): string {
  const inner = shell === "fish"
    ? text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")
    : text.replaceAll("'", "'\\''");
  return `'${inner}'`;
}

/** Shell code of bash and zsh: whether the present folder is in this project. */
const IN_PROJECT = `_tessera_here() {
  local dir=$PWD
  while [[ -n $dir ]]; do
    [[ -f $dir/deno.json ]] && break
    dir=\${dir%/*}
  done
  grep -qs '"@tessera/tessera"' "$dir/deno.json"
}`;

/** The script for a shell. */
export function completionScript(
  shell: typeof SHELLS[number],
  commands: readonly CompletedCommand[],
): string {
  const scripts = { bash, zsh, fish };
  return scripts[shell](commands);
}

function bash(commands: readonly CompletedCommand[]): string {
  const cases = commands.map((command) => {
    const entries = entriesOf(command);
    const names = entries.flatMap(({ name }) => name || []).join(" ");
    const values = Map.groupBy(
      entries.filter(({ value }) => value !== "flag"),
      ({ value, words }) => value === "words" ? `words ${words.join(" ")}` : value,
    );
    const arms = [...values].map(([action, its]) => {
      const patterns = its.map(({ name }) => name || "''").join("|");
      return `        ${patterns}) action=${quoted(action, "bash")} ;;`;
    });
    return [
      `    ${command.name})`,
      `      names=${quoted(names, "bash")}`,
      ...arms.length > 0 ? ['      case "$option" in', ...arms, "      esac"] : [],
      "      ;;",
    ].join("\n");
  });
  return `# Completion of Tessera's tasks for bash. In ~/.bashrc:
#   source /path/to/this/file
${IN_PROJECT}
_tessera_actions() {
  local option=$2
  action='' names=''
  case "$1" in
${cases.join("\n")}
  esac
}
_tessera() {
  local i at=0 word=$2 before=$3 action names
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == task ]] && at=$((i + 1)) && break
  done
  if ((at == 0)) || ! _tessera_here; then
    local other=\${_tessera_before[$1]-}
    [[ -n $other ]] && { "$other" "$@"; return; }
    COMPREPLY=()
    compopt -o default
    return
  fi
  if ((COMP_CWORD == at)); then
    COMPREPLY=($(compgen -W ${
    quoted(commands.map(({ name }) => name).join(" "), "bash")
  } -- "$word"))
    return
  fi
  # --name=value is three words to bash.
  [[ $word == = ]] && word=''
  [[ $before == = ]] && before=\${COMP_WORDS[COMP_CWORD - 2]}
  _tessera_actions "\${COMP_WORDS[at]}" "$before"
  if [[ -z $action || $before != --* ]]; then
    [[ $word == -* ]] && { COMPREPLY=($(compgen -W "$names" -- "$word")); return; }
    _tessera_actions "\${COMP_WORDS[at]}" ''
  fi
  COMPREPLY=()
  case "$action" in
    'words '*) COMPREPLY=($(compgen -W "\${action#words }" -- "$word")) ;;
    folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    '') COMPREPLY=($(compgen -W "$names" -- "$word")) ;;
  esac
}
declare -gA _tessera_before
for _tessera_name in deno npx; do
  # What completed it until now.
  _tessera_other=$(complete -p "$_tessera_name" 2>/dev/null | sed -n 's/.*-F \\([^ ]*\\).*/\\1/p')
  [[ $_tessera_other != _tessera ]] && _tessera_before[$_tessera_name]=$_tessera_other
  complete -F _tessera "$_tessera_name"
done
unset _tessera_name _tessera_other
`;
}

/** Within the part of an _arguments specification where colons and brackets mean something. */
const zshText = (text: string): string => text.replace(/[\\:[\]]/g, "\\$&");

function zsh(commands: readonly CompletedCommand[]): string {
  const actionOf = ({ value, words }: Entry): string =>
    value === "words"
      ? `(${words.join(" ")})`
      : { file: "_files", folder: "_files -/", any: " ", flag: "" }[value];
  const specOf = (entry: Entry, isList: boolean): string => {
    const { name, help, value } = entry;
    const action = actionOf(entry);
    if (name === "") return `${isList ? "*" : ""}:${zshText(help)}:${action}`;
    const begin = `${isList ? "*" : ""}${name}`;
    if (value === "flag") return `${begin}[${zshText(help)}]`;
    return `${begin}=[${zshText(help)}]:${zshText(name.slice(2))}:${action}`;
  };
  const cases = commands.map((command) => {
    const kinds = Object.values(command.options).map(({ type }) => type.kind);
    const specs = entriesOf(command).map((entry, i) => specOf(entry, kinds[i] === "list"));
    return [
      `    ${command.name})`,
      "      _arguments -s -S \\",
      ...specs.map((spec, i) =>
        `        ${quoted(spec, "zsh")}${i + 1 < specs.length ? " \\" : ""}`
      ),
      "      ;;",
    ].join("\n");
  });
  const tasks = commands.map(({ name, summary }) =>
    `    ${quoted(`${name}:${zshText(summary.replace(/\.$/, ""))}`, "zsh")}`
  );
  return `# Completion of Tessera's tasks for zsh. In ~/.zshrc, behind compinit:
#   source /path/to/this/file
${IN_PROJECT}
_tessera() {
  local at=\${words[(i)task]}
  if ((at >= CURRENT)) || ! _tessera_here; then
    local other=\${_tessera_before[$service]-}
    if [[ -n $other ]]; then $other "$@"; else _files; fi
    return
  fi
  local -a tasks=(
${tasks.join("\n")}
  )
  if ((CURRENT == at + 1)); then
    _describe task tasks
    return
  fi
  # _arguments takes the first word for the program.
  shift at words
  ((CURRENT -= at))
  case "$words[1]" in
${cases.join("\n")}
  esac
}
typeset -gA _tessera_before
for _tessera_name in deno npx; do
  # What completed it until now.
  [[ \${_comps[$_tessera_name]-} == _tessera ]] ||
    _tessera_before[$_tessera_name]=\${_comps[$_tessera_name]-}
done
unset _tessera_name
compdef _tessera deno npx
`;
}

function fish(commands: readonly CompletedCommand[]): string {
  const lines = commands.flatMap((command) => {
    const { name, summary } = command;
    const isUsed = quoted(`__tessera_task ${name}`, "fish");
    const rows = entriesOf(command).map((entry) => {
      const value = {
        flag: "-f",
        words: `-x -a ${quoted(entry.words.join(" "), "fish")}`,
        file: "-r -F",
        folder: "-x -a '(__fish_complete_directories (commandline -ct))'",
        any: "-x",
      }[entry.value];
      // A value that stands by itself has no name.
      const option = entry.name === ""
        ? value.replace(/^-r /, "").replace(/^-x -a/, "-f -a")
        : `-l ${entry.name.slice(2)} ${value}`;
      return `$name -n ${isUsed} ${option} -d ${quoted(entry.help, "fish")}`;
    });
    const task = `$name -n '__tessera_task' -f -a ${name} -d ${
      quoted(summary.replace(/\.$/, ""), "fish")
    }`;
    return [task, ...rows].map((row) => `    complete -c ${row}`);
  });
  return `# Completion of Tessera's tasks for fish:
#   deno task completion fish > ~/.config/fish/completions/tessera.fish
# and in ~/.config/fish/config.fish: source ~/.config/fish/completions/tessera.fish
function __tessera_task -a task
    set -l dir $PWD
    while test -n "$dir"; and not test -f "$dir/deno.json"
        set dir (string replace -r '/[^/]*$' '' -- $dir)
    end
    grep -qs '"@tessera/tessera"' "$dir/deno.json"; or return 1
    set -l words (commandline -opc)
    set -l at (contains -i -- task $words); or return 1
    if test -z "$task"
        test (count $words) -eq $at
    else
        set at (math $at + 1)
        test "$words[$at]" = $task
    end
end
for name in deno npx
    # Loads what fish has for it, which would remove these otherwise.
    complete -C "$name " >/dev/null 2>&1
${lines.join("\n")}
end
`;
}
