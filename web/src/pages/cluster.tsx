import { useState } from "preact/hooks";
import { call, Drive, DriveRow, enc, get, may } from "../api";
import { ago, bytes, count, percent, plural } from "../format";
import { Icon } from "../icons";
import { drives, jobs, nodes, status } from "../live";
import { Bar, Card, Cli, Confirm, Dialog, Empty, Pill, Trouble, Work, attempt, toast, useLoad } from "../parts";

interface Plan { drive: string; path: string; slots: number; blobs: number; bytes: number }

const stateNames: [string, string][] = [["ok", "well"], ["full", "full"], ["read-only", "read-only"], ["hung", "hung"], ["failing", "failing"], ["missing", "missing"], ["draining", "draining"]];

const idOf = (d: Drive) => d.id || d.path;

function Tile({ d, state, small, on }: { d: Drive; state: string; small: boolean; on: boolean }) {
  const full = d.total_bytes > 0 ? 1 - d.free_bytes / d.total_bytes : 0;
  const title = `${d.node ? d.node + ":" : ""}${d.path}: ${state}, ${Math.round(full * 100)} % of its disk used`;
  return (
    <button class={`tile c-${state}` + (small ? " small" : "")} aria-label={title} title={title} aria-pressed={on} data-state={state} data-drive={d.id} onClick={() => (location.hash = on ? "#/cluster" : `#/cluster/${enc(idOf(d))}`)}>
      <i style={{ height: full * 100 + "%" }} /><Icon name={state} />
    </button>
  );
}

/** DriveMap draws the drives of every node. */
function DriveMap({ selected, draining }: { selected: string; draining: Set<string> }) {
  const groups = new Map<string, Drive[]>();
  for (const d of drives.value) groups.set(d.node ?? "", [...(groups.get(d.node ?? "") ?? []), d]);
  const small = drives.value.length > 400;
  const stateOf = (d: Drive) => (d.state === "ok" && draining.has(d.id) ? "draining" : d.state);
  return (
    <div class="nodes">
      {[...groups].map(([name, list]) => {
        const node = nodes.value.find((n) => n.name === name) ?? (groups.size === 1 ? nodes.value[0] : undefined);
        const used = list.reduce((n, d) => n + d.live_bytes, 0);
        return (
          <div class="node" key={name}>
            <div class="row"><b class="break">{name || node?.name || "This server"}</b><span class="grow" />{node && <Pill state={node.state} />}</div>
            {node && (node.zone || node.rack) && <div class="small soft">{[node.zone && "zone " + node.zone, node.rack && "rack " + node.rack].filter(Boolean).join(", ")}</div>}
            <div class="tiles">{list.map((d) => <Tile key={idOf(d)} d={d} state={stateOf(d)} small={small} on={idOf(d) === selected} />)}</div>
            <div class="small soft">{plural(list.length, "drive")}, {bytes(used)} in shards{node?.roles ? ", " + node.roles : ""}</div>
          </div>
        );
      })}
    </div>
  );
}

function Detail({ d, row, reload }: { d: Drive; row?: DriveRow; reload: () => void }) {
  const [plan, setPlan] = useState<Plan | null>(null);
  const job = jobs.value.find((j) => j.kind === "drain" && j.subject === d.id && !["done", "failed", "canceled"].includes(j.state));
  const preview = () => attempt(async () => setPlan(await call<Plan>("POST", `/api/v1/drains?dry-run=1&drive=${enc(d.id)}`)));
  const drain = async () => {
    await call("POST", `/api/v1/drains?drive=${enc(d.id)}`);
    toast("The drive is being emptied.");
    setPlan(null);
    reload();
  };
  const undrain = () => attempt(() => call("DELETE", `/api/v1/drains?drive=${enc(d.id)}`), "The drive takes new slots again.").then(reload);
  const draining = row?.draining || !!job;
  return (
    <Card title={(d.node ? d.node + ":" : "") + d.path} side={<Pill state={d.state === "ok" && draining ? "draining" : d.state} />}>
      {d.reason && <div class="warn break">{d.reason}</div>}
      <div class="two">
        <dl class="facts">
          <dt>ID</dt><dd class="mono">{d.id || "it never held a drive"}</dd><dt>In this state</dt><dd>{ago(d.since)}</dd>
          <dt>Shards</dt><dd>{count(d.shards)}, {bytes(d.live_bytes)}</dd><dt>Waiting for compaction</dt><dd>{bytes(d.dead_bytes)}</dd>
        </dl>
        <dl class="facts">
          <dt>Disk</dt><dd>{bytes(d.free_bytes)} free of {bytes(d.total_bytes)} ({percent(d.total_bytes - d.free_bytes, d.total_bytes)} used)</dd>
          <dt>Errors</dt><dd>{count(d.errors)} since the start</dd><dt>Failure domains</dt><dd class="break">{row?.domains?.filter(Boolean).map((x) => x.slice(0, 12)).join(" / ") || "–"}</dd>
        </dl>
      </div>
      <Bar part={d.total_bytes - d.free_bytes} whole={d.total_bytes} label="Used space of the disk" />
      {job && <Work p={job} label="The drain of this drive" />}
      <div class="row">
        {may("cairn:DrainDrive") && d.id && (draining ? <button onClick={undrain}>Call the drain off</button> : <button onClick={preview}>Drain…</button>)}
        <span class="grow" /><Cli line={`cairn drive ${draining ? "undrain" : "drain"} ${d.id ? d.id.slice(0, 8) : d.path}`} />
      </div>
      {plan && (
        <Confirm title="Drain this drive?" action="Drain" close={() => setPlan(null)} submit={drain}>
          <p>{plural(plan.slots, "slot")} with {plural(plan.blobs, "shard")}, about <b>{bytes(plan.bytes)}</b>, would move to other drives.</p>
          <p class="soft">Each is copied and read back before it moves, so nothing is less safe meanwhile. The drive takes nothing new until the drain is called off.</p>
        </Confirm>
      )}
    </Card>
  );
}

export function Cluster({ selected }: { selected: string }) {
  const rows = useLoad(() => (may("cairn:ListDrives") ? get<DriveRow[]>("/api/v1/drives") : Promise.resolve([])), [], 4000);
  const [history, setHistory] = useState("");
  if (!status.value) return <div class="page"><h1>Cluster map</h1><p class="soft">Waiting for the first word from the server …</p></div>;
  const draining = new Set((rows.value ?? []).filter((r) => r.draining).map((r) => r.id));
  for (const j of jobs.value) if (j.kind === "drain" && !["done", "failed", "canceled"].includes(j.state) && j.subject) draining.add(j.subject);
  const d = drives.value.find((x) => idOf(x) === selected);
  const node = nodes.value.find((n) => n.id === history);
  return (
    <div class="page">
      <div class="head"><h1>Cluster map</h1><span class="soft">{plural(drives.value.length, "drive")} of {plural(Math.max(1, nodes.value.length), "node")}</span></div>
      <Trouble error={rows.error} />
      {selected && (d ? <Detail d={d} row={rows.value?.find((r) => r.id === d.id)} reload={rows.reload} /> : <div class="warn">There is no such drive any more.</div>)}
      {drives.value.length === 0 ? <Card><Empty title="No drives">Start a server with <code>--data</code> or <code>--drive</code>.</Empty></Card> : <DriveMap selected={selected} draining={draining} />}
      <div class="legend" aria-label="States">{stateNames.map(([s, name]) => <span key={s} class={"pill c-" + s}><Icon name={s} />{name}</span>)}<span>The filled part is how full the disk is.</span></div>
      <div class="two">
        <Card title="Metadata voters" flush>
          <div class="wide" tabIndex={0}><table><thead><tr><th>Voter</th><th>State</th><th>Role</th><th>Where</th></tr></thead>
            <tbody>{status.value.voters.map((v) => <tr key={v.id}><td>{v.id}</td><td><Pill state={v.state} /></td><td>{v.leader ? "leader" : "follower"}</td><td class="mono break">{v.node ? v.node + ":" : ""}{v.path}</td></tr>)}</tbody></table></div>
        </Card>
        <Card title="Nodes" flush>
          <div class="wide" tabIndex={0}><table><thead><tr><th>Node</th><th>State</th><th>Since</th><th>Roles</th><th class="right">History</th></tr></thead>
            <tbody>{nodes.value.map((n) => <tr key={n.id}><td class="break"><b>{n.name || n.id.slice(0, 8)}</b></td><td><Pill state={n.state} /></td><td>{ago(n.state_since)}</td><td>{n.roles}</td><td class="act"><button onClick={() => setHistory(n.id)}>Show</button></td></tr>)}</tbody></table></div>
        </Card>
      </div>
      {node && (
        <Dialog title={`What became of ${node.name || node.id.slice(0, 8)}`} close={() => setHistory("")}>
          {node.history?.length ? <table><tbody>{[...node.history].reverse().map((h) => <tr key={h.at + h.state}><td><Pill state={h.state} /></td><td class="nowrap">{ago(h.at)}</td><td class="break">{h.reason}</td></tr>)}</tbody></table> : <p class="soft">Nothing has happened to it.</p>}
          <footer><button onClick={() => setHistory("")}>Close</button></footer>
        </Dialog>
      )}
      <Cli line="cairn drive ls" />
    </div>
  );
}
