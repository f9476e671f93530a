/** What the tasks of deno.json run. */

const { tasks } = JSON.parse(
  Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)),
);

/** Words after `deno` of the `deno run` that a task ends with; its start is left out. */
export function runWords(task: string): string[] {
  const command: string = tasks[task].command;
  return command.replace(/^deno task -q start/, "deno run --no-prompt").split(" ").slice(1);
}
