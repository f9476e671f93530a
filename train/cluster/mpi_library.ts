/**
 * The machine's own MPI library through FFI: the few functions that are needed, and the numbers by
 * which its kinds differ.
 *
 * `Deno.dlopen` finds functions alone, but Open MPI's handles are addresses of variables: so the
 * system's `dlopen` and `dlsym` are called.
 *
 * @module
 */
import { UsageError } from "../errors.ts";
import type { Launched } from "./launcher.ts";

/** Opaque values of the library, such as a communicator. */
type Handle = Deno.PointerValue | number;

/**
 * What libraries of one kind agree on. Handles are addresses of variables in Open MPI, fixed
 * numbers as `int` in MPICH and those that share its ABI (Intel MPI, Cray, MVAPICH), and fixed
 * numbers as pointers in the ABI of MPI 5.0 (chapter 20).
 */
interface Abi {
  readonly name: string;
  /** A function that only libraries of this kind have; undefined for what is left. */
  readonly sign: string | undefined;
  readonly handles: "pointer" | "i32";
  /** Symbols or numbers. */
  readonly world: string | number;
  readonly byte: string | number;
  /** Value of `MPI_STATUS_IGNORE`. */
  readonly noStatus: bigint;
  /** Value of `MPI_THREAD_FUNNELED`. */
  readonly funneled: number;
}

/** In the order in which they are recognised. */
export const ABIS: readonly Abi[] = [
  {
    name: "Open MPI",
    sign: "ompi_mpi_comm_world",
    handles: "pointer",
    world: "ompi_mpi_comm_world",
    byte: "ompi_mpi_byte",
    noStatus: 0n,
    funneled: 1,
  },
  {
    name: "MPI ABI",
    sign: "MPI_Abi_get_version",
    handles: "pointer",
    world: 0x101,
    byte: 0x247,
    noStatus: 0n,
    funneled: 1024,
  },
  {
    name: "MPICH",
    sign: undefined,
    handles: "i32",
    world: 0x44000000,
    byte: 0x4c00010d,
    noStatus: 1n,
    funneled: 1,
  },
];

/** Files that a library may be, by who launched the process. */
const OPEN_MPI = ["libmpi.so.40", "libmpi.40.dylib"];
const OTHERS = ["libmpich.so.12", "libmpi.so.12", "libmpi_abi.so.1", "libmpi.12.dylib"];
const ANY = ["libmpi.so", "libmpi.dylib"];

/** Files to try, in order. */
export function libraryFiles(by: Launched["by"], named: string | undefined): readonly string[] {
  if (named !== undefined && named !== "") return [named];
  return by === "pmi" ? [...OTHERS, ...OPEN_MPI, ...ANY] : [...OPEN_MPI, ...OTHERS, ...ANY];
}

const isMac = Deno.build.os === "darwin";
const LIBC = isMac ? "libSystem.B.dylib" : "libc.so.6";
/** RTLD_NOW | RTLD_GLOBAL: plugins of Open MPI look for its symbols among all. */
const NOW_GLOBAL = 2 | (isMac ? 8 : 0x100);

const text = (words: string) => new TextEncoder().encode(`${words}\0`);

/** Symbols of the first file that can be opened. */
function open(files: readonly string[]): (symbol: string) => Deno.PointerValue {
  if (Deno.build.os === "windows") throw new UsageError("MPI is not supported on Windows");
  const { symbols: { dlopen, dlsym, dlerror } } = Deno.dlopen(LIBC, {
    dlopen: { parameters: ["buffer", "i32"], result: "pointer" },
    dlsym: { parameters: ["pointer", "buffer"], result: "pointer" },
    dlerror: { parameters: [], result: "pointer" },
  });
  const reasons: string[] = [];
  for (const file of files) {
    const library = dlopen(text(file), NOW_GLOBAL);
    if (library !== null) return (symbol) => dlsym(library, text(symbol));
    const reason = dlerror();
    reasons.push(reason === null ? file : new Deno.UnsafePointerView(reason).getCString());
  }
  throw new UsageError(
    "this process is one rank of a job, but no MPI library can be opened",
    [
      "install the one whose mpirun or srun starts it: apt-get install openmpi-bin, or mpich; on " +
      "a cluster load its module; or name the file with TESSERA_MPI=/path/to/libmpi.so",
      ...reasons,
    ].join("\n"),
  );
}

/** A send or a receive under way. */
export interface Transfer {
  /** The other rank. */
  readonly peer: number;
  /** The library's handle, which it changes. */
  readonly request: BigUint64Array<ArrayBuffer>;
}

/** Most bytes of a transfer: counts are 32 bits. */
const MOST_BYTES = 2 ** 31 - 1;
/** All transfers have this tag: between two ranks they do not overtake each other. */
const TAG = 1;

/** The library, initialised for the thread that made it. */
export class MpiLibrary {
  /** Kind and version, one line. */
  readonly name: string;
  /** This process's. */
  readonly rank: number;
  /** Processes. */
  readonly size: number;
  /** Name of this machine. */
  readonly host: string;
  readonly #world: Handle;
  readonly #byte: Handle;
  readonly #noStatus: Deno.PointerValue;
  readonly #symbol: (name: string) => Deno.PointerValue;
  readonly #handles: Abi["handles"];
  readonly #flag = new Int32Array(1);
  readonly #send;
  readonly #receive;
  readonly #test;

  /**
   * Opens the first of `files` that there is and calls `MPI_Init_thread`.
   *
   * @throws {UsageError} if there is none, or if it lacks a function
   */
  constructor(files: readonly string[]) {
    this.#symbol = open(files);
    const abi = ABIS.find(({ sign }) => sign === undefined || this.#symbol(sign) !== null)!;
    this.#handles = abi.handles;
    const handle = (value: string | number): Handle => {
      if (typeof value === "string") return this.#symbol(value);
      return abi.handles === "i32" ? value : Deno.UnsafePointer.create(BigInt(value));
    };
    this.#world = handle(abi.world);
    this.#byte = handle(abi.byte);
    this.#noStatus = Deno.UnsafePointer.create(abi.noStatus);
    const init = this.#function("MPI_Init_thread", ["pointer", "pointer", "i32", "buffer"]);
    const provided = new Int32Array(1);
    this.#checked("MPI_Init_thread", init.call(null, null, abi.funneled, provided));
    this.rank = this.#number("MPI_Comm_rank");
    this.size = this.#number("MPI_Comm_size");
    this.host = this.#text("MPI_Get_processor_name", 1024);
    const [version] = this.#text("MPI_Get_library_version", 8192 + 1024).split(/[\n,]/);
    this.name = `${abi.name}: ${version.replaceAll("\t", " ").trim()}`;
    const transfer = ["buffer", "i32", abi.handles, "i32", "i32", abi.handles, "buffer"] as const;
    this.#send = this.#function("MPI_Isend", transfer);
    this.#receive = this.#function("MPI_Irecv", transfer);
    this.#test = this.#function("MPI_Test", ["buffer", "buffer", "pointer"]);
  }

  #function<const Parameters extends readonly Deno.NativeType[]>(
    name: string,
    parameters: Parameters,
  ) {
    const address = this.#symbol(name);
    if (address === null) throw new UsageError(`the MPI library has no function ${name}`);
    return new Deno.UnsafeFnPointer(
      address as Deno.PointerObject<{ parameters: Parameters; result: "i32" }>,
      { parameters, result: "i32" as const },
    );
  }

  #checked(name: string, code: unknown): void {
    if (code !== 0) throw new Error(`${name} failed with code ${code}`);
  }

  #number(name: string): number {
    const result = new Int32Array(1);
    this.#checked(
      name,
      this.#function(name, [this.#handles, "buffer"]).call(this.#world as never, result),
    );
    return result[0];
  }

  #text(name: string, most: number): string {
    const [bytes, length] = [new Uint8Array(most), new Int32Array(1)];
    this.#checked(name, this.#function(name, ["buffer", "buffer"]).call(bytes, length));
    return new TextDecoder().decode(bytes.subarray(0, length[0])).replace(/\0.*$/s, "");
  }

  #transfer(
    name: "MPI_Isend" | "MPI_Irecv",
    bytes: Uint8Array,
    peer: number,
  ): Transfer {
    if (bytes.length > MOST_BYTES) throw new RangeError(`${name}: ${bytes.length} bytes at once`);
    const request = new BigUint64Array(1);
    const call = name === "MPI_Isend" ? this.#send : this.#receive;
    this.#checked(
      name,
      call.call(
        bytes as BufferSource,
        bytes.length,
        this.#byte as never,
        peer,
        TAG,
        this.#world as never,
        request,
      ),
    );
    return { peer, request };
  }

  /** Begins to send bytes, which must stay as they are until that is done. */
  send(bytes: Uint8Array, to: number): Transfer {
    return this.#transfer("MPI_Isend", bytes, to);
  }

  /** Begins to receive bytes. */
  receive(bytes: Uint8Array, from: number): Transfer {
    return this.#transfer("MPI_Irecv", bytes, from);
  }

  /** Whether a transfer is done; the library works on all that are under way meanwhile. */
  isDone({ request }: Transfer): boolean {
    this.#checked("MPI_Test", this.#test.call(request, this.#flag, this.#noStatus));
    return this.#flag[0] !== 0;
  }

  /** Ends all processes of the job; the launcher gives `code` on. */
  abort(code: number): void {
    this.#function("MPI_Abort", [this.#handles, "i32"]).call(this.#world as never, code);
  }

  /** Ends the use of MPI; all ranks have to call it. */
  finalize(): void {
    this.#checked("MPI_Finalize", this.#function("MPI_Finalize", []).call());
  }
}
