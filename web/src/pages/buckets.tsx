import { useState } from "preact/hooks";
import { Bucket as Row, call, enc, get, may, me } from "../api";
import { bytes, count, parseBytes, plural } from "../format";
import { Bar, Card, Cli, Confirm, Empty, Field, Form, Pill, Trouble, attempt, toast, useLoad } from "../parts";
import * as s3 from "../s3";

/** load asks the admin API, or S3 where that is not allowed: then there are only names. */
async function load(): Promise<Row[]> {
  if (may("cairn:ListBuckets")) return get<Row[]>("/api/v1/buckets");
  const d = new DOMParser().parseFromString(await (await s3.s3("GET", "/s3/")).text(), "application/xml");
  return Array.from(d.getElementsByTagName("Bucket")).map((b) => ({ name: b.getElementsByTagName("Name")[0].textContent!, owner: me.value!.name, objects: NaN, versions: NaN, bytes: NaN, uploads: NaN }));
}

const known = (n: number, show: (n: number) => string) => (isNaN(n) ? "–" : show(n));

function Create({ close, done }: { close: () => void; done: () => void }) {
  const [name, setName] = useState("");
  const [versioned, setVersioned] = useState(false);
  const [lock, setLock] = useState(false);
  const submit = async () => {
    await s3.s3("PUT", s3.path(name), undefined, lock ? { "X-Amz-Bucket-Object-Lock-Enabled": "true" } : {});
    if (versioned && !lock) await s3.setVersioning(name, true);
    toast(`Bucket ${name} is there.`);
    close();
    done();
  };
  return (
    <Form title="Create a bucket" action="Create" close={close} submit={submit}>
      <Field label="Name" hint="3 to 63 lower-case letters, digits, dots and hyphens"><input name="bucket" value={name} onInput={(e) => setName(e.currentTarget.value)} required minLength={3} maxLength={63} spellcheck={false} /></Field>
      <label class="check"><input type="checkbox" checked={versioned || lock} disabled={lock} onChange={(e) => setVersioned(e.currentTarget.checked)} />Keep old versions of overwritten and deleted objects</label>
      <label class="check"><input type="checkbox" checked={lock} onChange={(e) => setLock(e.currentTarget.checked)} />Object lock: versions can be kept from deletion. It cannot be taken back.</label>
      <Cli line={`aws s3api create-bucket --bucket ${name || "NAME"} --endpoint-url ${me.value?.s3 ?? "S3"}`} />
    </Form>
  );
}

export function Buckets() {
  const list = useLoad(load, [], 3000);
  const [filter, setFilter] = useState("");
  const [creating, create] = useState(false);
  const shown = (list.value ?? []).filter((b) => b.name.includes(filter));
  return (
    <div class="page">
      <div class="head"><h1>Buckets</h1><span class="soft">{list.value && plural(list.value.length, "bucket")}</span><span class="grow" />
        <label class="filter"><span class="hidden">Filter by name</span><input data-filter type="search" placeholder="Filter" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} /></label>
        <button class="primary" onClick={() => create(true)}>Create bucket</button></div>
      <Trouble error={list.error} />
      <Card flush>
        {list.value?.length === 0 ? <Empty title="No buckets yet">A bucket holds objects under keys: weights, datasets, checkpoints.<button class="primary" onClick={() => create(true)}>Create the first one</button></Empty> : (
          <div class="wide" tabIndex={0}><table>
            <thead><tr><th>Name</th><th class="hide-small">Owner</th><th class="right">Objects</th><th class="right">Size</th><th class="right hide-small">Quota</th><th class="hide-small">Versioning</th><th><span class="hidden">Settings</span></th></tr></thead>
            <tbody>{shown.slice(0, 500).map((b) => (
              <tr key={b.name}>
                <td class="break"><a href={`#/objects/${enc(b.name)}`}><b>{b.name}</b></a></td><td class="break hide-small">{b.owner.length > 20 ? b.owner.slice(0, 12) + "…" : b.owner}</td>
                <td class="right">{known(b.objects, count)}</td><td class="right">{known(b.bytes, bytes)}</td><td class="right hide-small">{b.quota_bytes ? bytes(b.quota_bytes) : "none"}</td>
                <td class="hide-small">{b.object_lock ? "Locked" : b.versioning || "Off"}</td><td class="act"><a class="button" href={`#/buckets/${enc(b.name)}`} aria-label={`Settings of ${b.name}`}>Settings</a></td>
              </tr>
            ))}</tbody></table></div>
        )}
        {shown.length > 500 && <p class="pad soft">The first 500 of {count(shown.length)}: filter by name to find others.</p>}
      </Card>
      <Cli line="cairn bucket ls" />
      {creating && <Create close={() => create(false)} done={list.reload} />}
    </div>
  );
}

function Quota({ b, close, done }: { b: Row; close: () => void; done: () => void }) {
  const [text, type] = useState(b.quota_bytes ? bytes(b.quota_bytes) : "");
  const submit = async () => {
    const n = text.trim() === "" || text.trim() === "none" ? 0 : parseBytes(text);
    if (isNaN(n)) throw new Error("Want a size, for example 500 GiB, or none.");
    await call("PUT", `/api/v1/buckets/${enc(b.name)}/quota`, { quota_bytes: n });
    close();
    done();
  };
  return <Form title={`Quota of ${b.name}`} action="Set" close={close} submit={submit}><Field label="All versions together hold at most" hint="For example 500 GiB; empty for no limit. What is there already stays."><input value={text} onInput={(e) => type(e.currentTarget.value)} /></Field><Cli line={`cairn bucket quota ${b.name} ${text.replace(/\s/g, "") || "none"}`} /></Form>;
}

function ConfigCard({ bucket, c, has, changed }: { bucket: string; c: s3.Config; has: boolean; changed: () => void }) {
  const doc = useLoad(() => (has ? s3.config(bucket, c) : Promise.resolve("")), [bucket, c.query, has]);
  const [edit, setEdit] = useState<string | null>(null);
  const submit = async () => {
    if (c.json) JSON.parse(edit!); // says where it is wrong
    await s3.put(s3.path(bucket, "", c.query), edit!);
    toast(`${c.name} is set.`);
    setEdit(null);
    changed();
  };
  const remove = () => attempt(() => s3.s3("DELETE", s3.path(bucket, "", c.query)), `${c.name} is gone.`).then(changed);
  return (
    <Card title={c.name} side={<Pill state={doc.value ? "active" : "none"} text={doc.value ? "set" : "not set"} />}>
      <p class="soft">{c.what}</p>
      <Trouble error={doc.error} />
      <div class="row"><button onClick={() => setEdit(doc.value || c.example.replace(/BUCKET/g, bucket))}>{doc.value ? "Edit" : "Set up"}</button>{doc.value && <button class="danger" onClick={remove}>Remove</button>}</div>
      {edit !== null && <Form title={`${c.name} of ${bucket}`} action="Save" wider close={() => setEdit(null)} submit={submit}><Field label={c.json ? "Document (JSON)" : "Document (XML)"}><textarea rows={16} spellcheck={false} value={edit} onInput={(e) => setEdit(e.currentTarget.value)} /></Field></Form>}
    </Card>
  );
}

export function Bucket({ name }: { name: string }) {
  const row = useLoad(async () => (await load()).find((b) => b.name === name) ?? null, [name], 3000);
  const [open, setOpen] = useState<"" | "quota" | "delete">("");
  const b = row.value;
  const drop = async () => {
    await s3.s3("DELETE", s3.path(name));
    toast(`Bucket ${name} is gone.`);
    location.hash = "#/buckets";
  };
  if (b === null) return <div class="page"><h1>{name}</h1><p>There is no such bucket. <a href="#/buckets">To all buckets</a></p></div>;
  return (
    <div class="page">
      <div class="head"><h1>{name}</h1><span class="grow" /><a class="button" href={`#/objects/${enc(name)}`}>Objects</a><button class="danger" onClick={() => setOpen("delete")}>Delete…</button></div>
      <Trouble error={row.error} />
      {b && (
        <div class="two">
          <Card title="What it holds">
            <div class="big">{known(b.bytes, bytes)}</div>
            {!!b.quota_bytes && <><Bar part={b.bytes} whole={b.quota_bytes} label="Used of the quota" /><span class="soft">of {bytes(b.quota_bytes)}</span></>}
            <dl class="facts"><dt>Objects</dt><dd>{known(b.objects, count)}</dd><dt>All versions</dt><dd>{known(b.versions, count)}</dd><dt>Open uploads</dt><dd>{known(b.uploads, count)}</dd><dt>Owner</dt><dd class="break">{b.owner}</dd></dl>
            {may("cairn:PutBucketQuota") && <div class="row"><button onClick={() => setOpen("quota")}>Quota…</button></div>}
          </Card>
          <Card title="Versioning" side={<Pill state={b.versioning === "Enabled" ? "active" : "none"} text={b.object_lock ? "locked" : b.versioning || "off"} />}>
            <p class="soft">With versioning, overwritten and deleted objects stay as older versions until they are deleted by version or by a lifecycle rule.</p>
            {b.object_lock ? <p>Object lock is on: versioning stays.</p> : <div class="row">{b.versioning === "Enabled" ? <button onClick={() => attempt(() => s3.setVersioning(name, false), "Versioning is suspended.").then(row.reload)}>Suspend</button> : <button onClick={() => attempt(() => s3.setVersioning(name, true), "Versioning is on.").then(row.reload)}>Turn on</button>}</div>}
          </Card>
        </div>
      )}
      <div class="grid">{s3.configs.map((c) => <ConfigCard key={c.query} bucket={name} c={c} has={!!b?.configs?.includes(c.query) || !may("cairn:ListBuckets")} changed={row.reload} />)}</div>
      {open === "quota" && b && <Quota b={b} close={() => setOpen("")} done={row.reload} />}
      {open === "delete" && <Confirm title={`Delete ${name}?`} action="Delete" name={name} close={() => setOpen("")} submit={drop}><p>Only an empty bucket can be deleted.{b && b.versions > 0 && ` This one holds ${plural(b.versions, "version")}.`}</p></Confirm>}
    </div>
  );
}
