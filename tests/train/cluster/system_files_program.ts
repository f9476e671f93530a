/** What libc says of the folder and the file in it that its words name, as a line of JSON. */
import { systemFiles } from "../../../train/cluster/system_files.ts";

const [dir, name] = Deno.args;
const files = systemFiles();
const rest = [files.text(`${dir}/${name}`), files.names(`${dir}/none`), files.text(`${dir}/none`)];
console.log(JSON.stringify({ names: files.names(dir), rest }));
