// The live state: what the server's stream of events tells, and whether that is still true.

import { batch, computed, signal } from "@preact/signals";
import { get, me, Drive, Job, Me, Node, Problem, Sample, Status } from "./api";

const members = new Map<string, any>();
const version = signal(0); // rises with every event that changed something

function all<T>(prefix: string): T[] {
  version.value; // whoever asks is told of the next change
  const list: T[] = [];
  for (const [name, v] of members) if (name.startsWith(prefix)) list.push(v);
  return list;
}

export const status = computed<Status | null>(() => {
  version.value;
  return members.has("health") ? (Object.fromEntries([...members].filter(([n]) => !n.includes("/"))) as unknown as Status) : null;
});
export const drives = computed(() => all<Drive>("drives/").sort((a, b) => (a.node ?? "").localeCompare(b.node ?? "") || a.path.localeCompare(b.path, "en", { numeric: true })));
export const jobs = computed(() => all<Job>("jobs/").sort((a, b) => b.id - a.id));
export const nodes = computed(() => all<Node>("nodes/").sort((a, b) => a.name.localeCompare(b.name)));
export const sample = computed<Sample | null>(() => (version.value, members.get("sample") ?? null));

/** samples are those that came while the page was open, behind those of the history. */
export const samples = signal<Sample[]>([]);

/** stale says why what is shown may be out of date; "" while it is not. */
export const stale = signal("");
let heard = 0;
let source: EventSource | null = null;
const patience = 5000; // the server says something every second

function apply(text: string, whole: boolean) {
  const change = JSON.parse(text) as { set: Record<string, any>; gone?: string[] };
  batch(() => {
    if (whole) members.clear();
    for (const name in change.set) members.set(name, change.set[name]);
    for (const name of change.gone ?? []) members.delete(name);
    version.value++;
    if (change.set.sample) samples.value = [...samples.value.slice(-8640), change.set.sample];
  });
  fresh();
}

function fresh() {
  heard = Date.now();
  stale.value = "";
}

/** connect follows the stream for as long as somebody is logged in. */
export function connect() {
  source?.close();
  source = new EventSource("/api/v1/events");
  source.addEventListener("snapshot", (e) => apply(e.data, true));
  source.addEventListener("delta", (e) => apply(e.data, false));
  source.addEventListener("tick", fresh);
  source.addEventListener("trouble", (e) => {
    heard = Date.now();
    stale.value = "The state cannot be read: " + JSON.parse(e.data).detail;
  });
  source.onerror = () => {
    if (source?.readyState === EventSource.CLOSED) setTimeout(again, 2000);
  };
}

/** again is for a stream that the browser has given up: was it the login that ended, or the server? */
async function again() {
  if (!me.value) return;
  try {
    me.value = await get<Me>("/api/v1/me");
    connect();
  } catch (e) {
    if (!(e instanceof Problem) || e.status !== 401) setTimeout(again, 2000);
  }
}

export async function begin() {
  heard = Date.now();
  connect();
  try {
    samples.value = (await get<{ samples: Sample[] }>("/api/v1/history")).samples;
  } catch {
    // the charts begin empty
  }
}

export function end() {
  source?.close();
  source = null;
  members.clear();
  version.value++;
}

setInterval(() => {
  const silent = Date.now() - heard;
  if (source && silent > patience) stale.value = `No word from the server for ${Math.round(silent / 1000)} s: this is how things were then.`;
}, 1000);
