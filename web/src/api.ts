// The admin API: one way to ask, one kind of error.

import { signal } from "@preact/signals";

export interface Me { name: string; access_key: string; root?: boolean; admin: boolean; actions: string[]; s3?: string }

/** me is who is logged in: undefined while that is not known, null for nobody. */
export const me = signal<Me | null | undefined>(undefined);

export const may = (action: string) => !!me.value?.actions.includes(action);

/** Problem is an answer other than 2xx, as a problem document tells it. */
export class Problem extends Error {
  constructor(public status: number, public title: string, detail: string, public hint = "", public field = "", public requestID = "") {
    super(detail);
  }
}

export async function problemOf(r: Response): Promise<Problem> {
  const text = await r.text();
  try {
    const p = JSON.parse(text);
    return new Problem(r.status, p.title, p.detail, p.hint, p.field, p.request_id);
  } catch {
    return new Problem(r.status, r.statusText || "The server failed", text.slice(0, 300) || `HTTP ${r.status}`);
  }
}

/** send makes a request; a login that has ended shows the login form. */
export async function send(method: string, path: string, body?: BodyInit, headers: Record<string, string> = {}): Promise<Response> {
  let r: Response;
  try {
    r = await fetch(path, { method, body, headers, credentials: "same-origin" });
  } catch {
    throw new Problem(0, "No answer", "The server does not answer.", "It may be restarting; try again in a moment.");
  }
  if (r.ok) return r;
  const p = await problemOf(r);
  if (r.status === 401 && path !== "/login") me.value = null;
  throw p;
}

export async function call<T>(method: string, path: string, document?: unknown): Promise<T> {
  const r = await send(method, path, document === undefined ? undefined : JSON.stringify(document),
    document === undefined ? {} : { "Content-Type": "application/json" });
  return r.json();
}

export const get = <T>(path: string) => call<T>("GET", path);

export const enc = encodeURIComponent;

// The documents, as the OpenAPI description has them.
export interface Progress {
  state: string; reason?: string; started?: string; finished?: string; done_bytes: number; total_bytes: number; done_blobs: number; total_blobs: number;
  rate_bytes_per_sec: number; eta_ns?: number; last_error?: string;
}
export interface Job extends Progress { id: number; kind: string; subject?: string; created: string; wish: string }
export interface Drive {
  id: string; node?: string; path: string; state: string; since: string; reason?: string; total_bytes: number; free_bytes: number; live_bytes: number;
  dead_bytes: number; shards: number; errors: number;
}
export interface DriveRow { id: string; node: string; path: string; state: string; retired?: boolean; draining?: boolean; domains?: string[] }
export interface Node { id: string; name: string; addr: string; roles: string; zone?: string; rack?: string; state: string; state_since: string; reason?: string; version?: string; history?: { state: string; at: string; reason?: string }[] }
export interface Voter { id: number; node?: string; drive: string; path: string; state: string; leader: boolean }
export interface Status {
  health: "ok" | "healing" | "at-risk" | "lost"; reasons: string[] | null; needs?: string; cluster: string; node: string; profile: string; started: string;
  blobs_by_spare: Record<string, number>;
  capacity: { total_bytes: number; free_bytes: number; used_bytes: number; usable_bytes: number };
  volumes: { open: number; sealed: number; by_profile: { profile: string; volumes: number }[]; by_spare: Record<string, number> };
  voters: Voter[];
  scrub: Progress & { passes: number; findings: number; orphans: number };
  repair: Progress & { queued: number; waiting?: string };
}
export interface Sample {
  time: string; requests_per_second: number; refused_per_second: number; errors_per_second: number; in_bytes_per_second: number; out_bytes_per_second: number;
  p50_seconds: number; p99_seconds: number; used_bytes: number; usable_bytes: number; queued_damage: number; repair_bytes_per_second: number;
}
export interface Bucket { name: string; owner: string; versioning?: string; object_lock?: boolean; quota_bytes?: number; objects: number; versions: number; bytes: number; uploads: number; configs?: string[] }
export interface User { name: string; id: string; account: string; email?: string; created: string; disabled?: boolean; policies: string[] | null; groups?: string[] }
export interface Key { access_key: string; user: string; created: string; expires?: string; disabled?: boolean; policy?: string; last_used?: string }
export interface Policy { name: string; document: string; builtin?: boolean; updated?: string }
export interface Group { name: string; policies: string[] | null }
export interface Audit { number: number; time: string; who: string; access_key: string; from: string; action: string; subject?: string; result: string; request_id: string }
export interface Shard { slot: number; role: string; drive: string; drive_path: string; drive_state: string; state: string; path?: string; offset: number; length: number; error?: string }
export interface Blob_ { ref: unknown; offset: number; profile: string; unit_bytes: number; epoch: number; spare: number; shards: Shard[] }
export interface ObjectMap { version: any; inline_bytes?: number; blobs: Blob_[] | null }
