import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { enc, get, may, ObjectMap } from "../api";
import { ago, bytes, count, percent, plural, when } from "../format";
import { Icon } from "../icons";
import { Bar, Card, Cli, Confirm, Empty, Pill, Trouble, attempt, textOf, toast, useLoad } from "../parts";
import * as s3 from "../s3";
import { ShardMap } from "./shards";

const to = (bucket: string, prefix: string, object = "") => `#/objects/${enc(bucket)}/${enc(prefix)}` + (object ? "/" + enc(object) : "");

// Uploads live beside the pages, so that going elsewhere does not end them.
interface Up { id: number; bucket: string; key: string; size: number; sent: number; state: "waits" | "running" | "done" | "failed"; error?: string; file: File; stop: AbortController }
const uploads = signal<Up[]>([]);
const uploaded = signal(0);
const atOnce = 3;
const shownUploads = 100;
let nextUpload = 0;

const change = (id: number, to: Partial<Up>) => (uploads.value = uploads.value.map((u) => (u.id === id ? { ...u, ...to } : u)));

function add(bucket: string, prefix: string, files: File[]) {
  uploads.value = [...uploads.value, ...files.map((file) => ({ id: nextUpload++, bucket, key: prefix + ((file as any).webkitRelativePath || file.name), size: file.size, sent: 0, state: "waits" as const, file, stop: new AbortController() }))];
  pump();
}

function pump() {
  while (uploads.value.filter((u) => u.state === "running").length < atOnce) {
    const next = uploads.value.find((u) => u.state === "waits");
    if (!next) return;
    change(next.id, { state: "running" });
    s3.upload(next.bucket, next.key, next.file, (sent) => change(next.id, { sent }), next.stop.signal)
      .then(() => change(next.id, { state: "done", sent: next.size }), (e) => change(next.id, { state: "failed", error: textOf(e) }))
      .then(() => { uploaded.value++; pump(); });
  }
}

function Uploads() {
  const list = uploads.value;
  if (list.length === 0) return null;
  const open = list.filter((u) => u.state !== "done");
  const sent = list.reduce((n, u) => n + u.sent, 0), size = list.reduce((n, u) => n + u.size, 0);
  return (
    <Card title="Uploads" side={<button onClick={() => (uploads.value = list.filter((u) => u.state === "running" || u.state === "waits"))}>Clear what has ended</button>}>
      <div class="row"><span>{list.length - open.length} of {plural(list.length, "file")} done</span><span class="soft">{bytes(sent)} of {bytes(size)} ({percent(sent, size)})</span></div>
      <Bar part={sent} whole={size || 1} label="All uploads" />
      {open.length > 0 && <div class="wide" tabIndex={0}><table><tbody>{open.slice(0, shownUploads).map((u) => (
        <tr key={u.id}><td class="break">{u.key}{u.error && <div class="small problem">{u.error}</div>}</td><td class="right nowrap">{bytes(u.sent)} of {bytes(u.size)}</td><td><Pill state={u.state === "waits" ? "queued" : u.state} /></td>
          <td class="act">{u.state === "failed" ? <button onClick={() => { change(u.id, { state: "waits", error: "", stop: new AbortController() }); pump(); }}>Try again</button> : <button onClick={() => { u.stop.abort(); change(u.id, { state: "failed", error: "Canceled." }); }}>Cancel</button>}</td></tr>
      ))}</tbody></table></div>}
      {open.length > shownUploads && <p class="soft">The first {shownUploads} of {count(open.length)} are listed.</p>}
    </Card>
  );
}

function Drop({ bucket, prefix }: { bucket: string; prefix: string }) {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class={"drop" + (over ? " over" : "")} onDragOver={(e) => { e.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)}
      onDrop={(e) => { e.preventDefault(); setOver(false); add(bucket, prefix, Array.from(e.dataTransfer?.files ?? [])); }}>
      <Icon name="up" /><span class="grow">Drop files here, or</span>
      <input ref={input} id="files" class="hidden" type="file" multiple aria-label="Files to upload" onChange={(e) => { add(bucket, prefix, Array.from(e.currentTarget.files ?? [])); e.currentTarget.value = ""; }} />
      <button onClick={() => input.current!.click()}>Choose files</button>
    </div>
  );
}

function Crumbs({ bucket, prefix, title }: { bucket: string; prefix: string; title?: boolean }) {
  const parts = prefix.split("/").slice(0, -1);
  const Line = title ? "h1" : "div";
  return (
    <nav aria-label="Where"><Line class="crumbs">
      <a href="#/buckets">Buckets</a><span class="soft">/</span><a href={to(bucket, "")}>{bucket}</a>
      {parts.map((p, i) => [<span class="soft" key={i}>/</span>, <a key={i + "a"} class="break" href={to(bucket, parts.slice(0, i + 1).join("/") + "/")}>{p || "(empty)"}</a>])}
    </Line></nav>
  );
}

function Listing({ bucket, prefix }: { bucket: string; prefix: string }) {
  const [filter, setFilter] = useState("");
  const [sought, seek] = useState("");
  const [pages, setPages] = useState<s3.Page[]>([]);
  const [error, setError] = useState("");
  const [chosen, choose] = useState<Set<string>>(new Set());
  const [deleting, remove] = useState(false);
  const turn = useRef(0);
  const more = async (begin: boolean) => {
    const mine = begin ? ++turn.current : turn.current;
    try {
      const p = await s3.list(bucket, prefix + sought, begin ? "" : pages[pages.length - 1].next);
      if (mine === turn.current) { setPages(begin ? [p] : [...pages, p]); setError(""); }
    } catch (e) {
      if (mine === turn.current) { setPages([]); setError(textOf(e)); }
    }
  };
  useEffect(() => { choose(new Set()); more(true); }, [bucket, prefix, sought, uploaded.value]);
  useEffect(() => { const t = setTimeout(() => seek(filter), 250); return () => clearTimeout(t); }, [filter]);
  const entries = pages.flatMap((p) => p.entries).filter((e) => e.key !== prefix);
  const prefixes = pages.flatMap((p) => p.prefixes);
  const last = pages[pages.length - 1];
  const toggle = (k: string) => { const n = new Set(chosen); n.has(k) ? n.delete(k) : n.add(k); choose(n); };
  const drop = async () => {
    for (const k of chosen) await s3.remove(bucket, k);
    toast(`${plural(chosen.size, "object")} deleted.`);
    remove(false);
    choose(new Set());
    more(true);
  };
  return (
    <>
      <div class="head"><Crumbs bucket={bucket} prefix={prefix} title /><span class="grow" />
        <label class="filter"><span class="hidden">Names that begin with</span><input data-filter type="search" placeholder="Names that begin with" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} /></label>
        {chosen.size > 0 && <button class="danger" onClick={() => remove(true)}>Delete {chosen.size}…</button>}
        <a class="button" href={`#/buckets/${enc(bucket)}`}>Settings</a></div>
      <Trouble error={error} />
      <Drop bucket={bucket} prefix={prefix} />
      <Uploads />
      <Card flush>
        {last && entries.length + prefixes.length === 0 ? <Empty title={sought ? "Nothing begins with that" : "Nothing here yet"}>{!sought && "Upload files above, or with any S3 client."}</Empty> : (
          <div class="wide" tabIndex={0}><table>
            <thead><tr><th><span class="hidden">Choose</span></th><th>Name</th><th class="right">Size</th><th>Changed</th></tr></thead>
            <tbody>
              {prefixes.map((p) => <tr key={"p" + p}><td /><td class="break"><a href={to(bucket, p)}><span class="row"><Icon16 name="folder" />{p.slice(prefix.length)}</span></a></td><td class="right soft">–</td><td class="soft">–</td></tr>)}
              {entries.map((e) => (
                <tr key={e.key}><td><input type="checkbox" aria-label={`Choose ${e.key}`} checked={chosen.has(e.key)} onChange={() => toggle(e.key)} /></td>
                  <td class="break"><a href={to(bucket, prefix, e.key)}><span class="row"><Icon16 name="file" />{e.key.slice(prefix.length)}</span></a></td>
                  <td class="right nowrap">{bytes(e.size)}</td><td class="nowrap" title={when(e.modified)}>{ago(e.modified)}</td></tr>
              ))}
            </tbody></table></div>
        )}
        {last?.next && <div class="pad row"><button onClick={() => more(false)}>Show more</button><span class="soft">{count(entries.length + prefixes.length)} shown; a prefix finds names faster than paging.</span></div>}
      </Card>
      <Cli line={`aws s3 ls s3://${bucket}/${prefix}`} />
      {deleting && <Confirm title={`Delete ${plural(chosen.size, "object")}?`} action="Delete" close={() => remove(false)} submit={drop}><p>Where the bucket keeps versions they stay as older ones; elsewhere they are gone.</p></Confirm>}
    </>
  );
}

const Icon16 = ({ name }: { name: string }) => <span class="pill"><Icon name={name} /></span>;

function Detail({ bucket, prefix, object }: { bucket: string; prefix: string; object: string }) {
  const list = useLoad(() => s3.versions(bucket, object), [bucket, object]);
  const [chosen, choose] = useState("");
  const [deleting, remove] = useState("");
  const v = list.value?.find((x) => x.id === chosen) ?? list.value?.find((x) => x.latest);
  const map = useLoad(async () => (v && !v.marker && may("cairn:GetObjectShards") ? get<ObjectMap>(`/api/v1/objects/${enc(bucket)}/${enc(object)}/shards?version=${enc(v.id)}`) : null), [v?.id], 4000);
  const row = map.value?.version;
  const drop = async () => {
    await s3.remove(bucket, object, deleting);
    toast("That version is gone.");
    remove("");
    choose("");
    list.reload();
  };
  return (
    <>
      <Crumbs bucket={bucket} prefix={prefix} />
      <div class="head"><h1>{object.slice(prefix.length) || object}</h1><span class="grow" />
        {v && !v.marker && <a class="button primary" href={s3.path(bucket, object, "versionId=" + enc(v.id))} download={object.split("/").pop()}>Download</a>}
        {list.value?.[0] && !list.value[0].marker && <button class="danger" onClick={() => attempt(() => s3.remove(bucket, object), "Deleted.").then(() => list.reload())}>Delete</button>}</div>
      <Trouble error={list.error} />
      {list.value?.length === 0 && <Card><Empty title="There is no such object">It was deleted, or never stored. <a href={to(bucket, prefix)}>Back to the list</a></Empty></Card>}
      {v && (
        <div class="two">
          <Card title="Object">
            <dl class="facts"><dt>Key</dt><dd class="mono">{object}</dd><dt>Size</dt><dd>{bytes(v.size)} ({count(v.size)} bytes)</dd><dt>Changed</dt><dd>{when(v.modified)}</dd><dt>ETag</dt><dd class="mono">{v.etag.replace(/"/g, "")}</dd>
              {Object.entries((row?.headers ?? {}) as Record<string, string>).map(([k, x]) => [<dt key={k}>{k}</dt>, <dd key={k + "v"}>{x}</dd>])}
              {Object.entries((row?.tags ?? {}) as Record<string, string>).map(([k, x]) => [<dt key={"t" + k}>Tag {k}</dt>, <dd key={k + "tv"}>{x}</dd>])}
              {(row?.checksums ?? []).map((c: any, i: number) => [<dt key={"c" + i}>{c.algorithm ?? c.Algo ?? "Checksum"}</dt>, <dd key={i + "cv"} class="mono">{c.value ?? c.Value}</dd>])}</dl>
          </Card>
          <Card title="Versions" flush>
            <div class="wide" tabIndex={0}><table data-versions><thead><tr><th>Version</th><th class="right">Size</th><th>Stored</th><th><span class="hidden">Change</span></th></tr></thead>
              <tbody>{list.value!.map((x) => (
                <tr key={x.id} class={x.id === v.id ? "at" : ""}>
                  <td><button class="quiet mono" onClick={() => choose(x.id)}>{x.id === "null" ? "null" : "…" + x.id.slice(-6)}</button>{x.latest && <Pill state="active" text="current" />}{x.marker && <Pill state="none" text="deleted" />}</td>
                  <td class="right nowrap">{x.marker ? "–" : bytes(x.size)}</td><td class="nowrap" title={when(x.modified)}>{ago(x.modified)}</td>
                  <td class="act"><span class="row">{!x.latest && !x.marker && <button onClick={() => attempt(() => s3.restore(bucket, object, x.id), "It is the current version again.").then(list.reload)}>Restore</button>}{x.latest && x.marker && <button onClick={() => attempt(() => s3.remove(bucket, object, x.id), "It is back.").then(list.reload)}>Undelete</button>}<button class="danger" onClick={() => remove(x.id)}>Delete</button></span></td>
                </tr>
              ))}</tbody></table></div>
          </Card>
        </div>
      )}
      {map.value && <Card title="Where every shard is"><ShardMap map={map.value} /></Card>}
      <Trouble error={map.error} />
      <Cli line={`cairn object show '${bucket}/${object}'`} />
      {deleting && <Confirm title="Delete this version for good?" action="Delete" close={() => remove("")} submit={drop}><p>No other version changes. This one cannot be brought back.</p></Confirm>}
    </>
  );
}

export function Objects({ bucket, prefix, object }: { bucket: string; prefix: string; object: string }) {
  return <div class="page">{object ? <Detail key={object} bucket={bucket} prefix={prefix} object={object} /> : <Listing key={bucket + "/" + prefix} bucket={bucket} prefix={prefix} />}</div>;
}
