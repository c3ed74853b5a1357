import { ObjectMap } from "../api";
import { bytes, count, plural } from "../format";
import { Empty, Pill } from "../parts";

const shownBlobs = 50;

/** ShardMap shows which shard lies on which drive, and how it is. */
export function ShardMap({ map, checked }: { map: ObjectMap; checked?: boolean }) {
  const blobs = map.blobs ?? [];
  if (blobs.length === 0) return <Empty title="Small enough to live in the metadata">{bytes(map.inline_bytes ?? 0)}, on every metadata voter.</Empty>;
  const bad = blobs.reduce((n, b) => n + b.shards.filter((s) => s.state !== "ok").length, 0);
  return (
    <div class="stack" data-shards>
      <p>{plural(blobs.length, "blob")}, {bad === 0 ? "all shards are " + (checked ? "read and right." : "there.") : `${plural(bad, "shard is", "shards are")} not well.`}</p>
      {blobs.slice(0, shownBlobs).map((b, i) => (
        <div class="wide" tabIndex={0} key={i}>
          <div class="row small soft"><b>Blob {i + 1}</b><span>at {count(b.offset)}</span><span>{b.profile}</span><span>unit {bytes(b.unit_bytes)}</span><span>epoch {b.epoch}</span><span>{b.spare} to spare</span></div>
          <table><thead><tr><th>Slot</th><th>Role</th><th>State</th><th>Drive</th><th class="right">Length</th></tr></thead>
            <tbody>{b.shards.map((s) => <tr key={s.slot}><td>{s.slot}</td><td>{s.role}</td><td><Pill state={s.state} />{s.error && <div class="small break">{s.error}</div>}</td><td class="mono break">{s.path || s.drive_path}{s.drive_state !== "ok" && ` (${s.drive_state})`}</td><td class="right">{bytes(s.length)}</td></tr>)}</tbody></table>
        </div>
      ))}
      {blobs.length > shownBlobs && <p class="soft">The first {shownBlobs} of {count(blobs.length)} are shown; <code>cairn object show</code> lists all.</p>}
    </div>
  );
}
