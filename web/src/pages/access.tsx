import { useState } from "preact/hooks";
import { call, enc, get, Group, Key, me, Policy, User } from "../api";
import { ago, when } from "../format";
import { Icon } from "../icons";
import { Card, Cli, Confirm, Dialog, Empty, Field, Form, Pill, Tabs, Trouble, attempt, copy, toast, useLoad } from "../parts";

interface Made { access_key: string; secret_key: string; name?: string }

/** Secret shows a new key this once. */
const Secret = ({ made, close }: { made: Made; close: () => void }) => (
  <Dialog title="The new access key" close={close}>
    <p class="warn">The secret key is shown this once. Store it now: nobody can read it later.</p>
    <dl class="facts"><dt>Access key</dt><dd class="mono" data-access>{made.access_key}</dd><dt>Secret key</dt><dd class="mono" data-secret>{made.secret_key}</dd></dl>
    <footer><button onClick={() => copy(`${made.access_key}\n${made.secret_key}`)}>Copy both</button><button class="primary" onClick={close}>I have stored it</button></footer>
  </Dialog>
);

function Choose({ label, all, chosen, choose }: { label: string; all: string[]; chosen: string[]; choose: (l: string[]) => void }) {
  return (
    <fieldset class="stack"><legend><b>{label}</b></legend>
      <div class="row">{all.map((p) => <label class="check" key={p}><input type="checkbox" checked={chosen.includes(p)} onChange={(e) => choose(e.currentTarget.checked ? [...chosen, p] : chosen.filter((x) => x !== p))} />{p}</label>)}</div>
      {all.length === 0 && <span class="soft small">There are none.</span>}
    </fieldset>
  );
}

function UserForm({ user, policies, groups, close, done }: { user?: User; policies: string[]; groups: string[]; close: () => void; done: (m?: Made) => void }) {
  const [name, setName] = useState(user?.name ?? "");
  const [has, setHas] = useState(user?.policies ?? (user ? [] : ["readwrite"]));
  const [inside, setInside] = useState(user?.groups ?? []);
  const submit = async () => {
    if (user) {
      await call("PATCH", `/api/v1/users/${enc(user.name)}`, { policies: has, groups: inside });
      done();
    } else {
      done(await call<Made>("POST", "/api/v1/users", { name, policies: has, groups: inside }));
    }
    close();
  };
  return (
    <Form title={user ? `Rights of ${user.name}` : "Create a user"} action={user ? "Save" : "Create"} close={close} submit={submit}>
      {!user && <Field label="Name" hint="An account of its own, which owns the buckets that it makes."><input name="user" value={name} onInput={(e) => setName(e.currentTarget.value)} required maxLength={64} spellcheck={false} /></Field>}
      <Choose label="Policies" all={policies} chosen={has} choose={setHas} />
      <Choose label="Groups" all={groups} chosen={inside} choose={setInside} />
      <Cli line={user ? `cairn user set ${user.name} --policy ${has.join(",")}` : `cairn user create ${name || "NAME"} --policy ${has.join(",")}`} />
    </Form>
  );
}

function Users() {
  const users = useLoad(() => get<User[]>("/api/v1/users"), []);
  const policies = useLoad(() => get<Policy[]>("/api/v1/policies"), []);
  const groups = useLoad(() => get<Group[]>("/api/v1/groups"), []);
  const [open, setOpen] = useState<{ user?: User } | null>(null);
  const [made, setMade] = useState<Made | null>(null);
  const [gone, remove] = useState("");
  const set = (u: User, disabled: boolean) => attempt(() => call("PATCH", `/api/v1/users/${enc(u.name)}`, { disabled }), disabled ? "All of its keys are refused now." : "Its keys work again.").then(users.reload);
  return (
    <>
      <Trouble error={users.error} />
      <Card flush title="Users" side={me.value!.admin && <button class="primary" onClick={() => setOpen({})}>Create user</button>}>
        {users.value?.length === 0 ? <Empty title="No users yet">The root identity is for setting up. Give everybody and every program a user of its own.</Empty> : (
          <div class="wide" tabIndex={0}><table><thead><tr><th>Name</th><th class="hide-small">Account</th><th>Policies</th><th class="hide-small">Groups</th><th>State</th><th><span class="hidden">Change</span></th></tr></thead>
            <tbody>{users.value?.map((u) => (
              <tr key={u.name}><td class="break"><b>{u.name}</b></td><td class="hide-small mono">{u.account}</td><td class="break">{(u.policies ?? []).join(", ") || "–"}</td><td class="hide-small break">{(u.groups ?? []).join(", ") || "–"}</td><td><Pill state={u.disabled ? "disabled" : "active"} /></td>
                <td class="act">{me.value!.admin && <span class="row"><button onClick={() => setOpen({ user: u })} aria-label={`Rights of ${u.name}`}>Rights</button><button onClick={() => set(u, !u.disabled)} aria-label={`${u.disabled ? "Enable" : "Disable"} ${u.name}`}>{u.disabled ? "Enable" : "Disable"}</button><button class="danger" aria-label={`Remove ${u.name}`} onClick={() => remove(u.name)}>Remove</button></span>}</td></tr>
            ))}</tbody></table></div>
        )}
      </Card>
      <Cli line="cairn user ls" />
      {open && <UserForm user={open.user} policies={(policies.value ?? []).map((p) => p.name)} groups={(groups.value ?? []).map((g) => g.name)} close={() => setOpen(null)} done={(m) => { users.reload(); if (m) setMade(m); else toast("Saved."); }} />}
      {made && <Secret made={made} close={() => setMade(null)} />}
      {gone && <Confirm title={`Remove ${gone}?`} action="Remove" name={gone} close={() => remove("")} submit={async () => { await call("DELETE", `/api/v1/users/${enc(gone)}`); remove(""); users.reload(); toast("The user and its keys are gone."); }}><p>Its keys end now. Buckets that it owns stay.</p></Confirm>}
    </>
  );
}

function KeyForm({ users, close, done }: { users: string[]; close: () => void; done: (m: Made) => void }) {
  const [user, setUser] = useState(users[0] ?? "");
  const [days, setDays] = useState("");
  const [policy, setPolicy] = useState("");
  const submit = async () => {
    const expires = days ? new Date(Date.now() + +days * 86400e3).toISOString() : undefined;
    done(await call<Made>("POST", "/api/v1/keys", { user, expires, policy: policy.trim() || undefined }));
    close();
  };
  return (
    <Form title="Create an access key" action="Create" close={close} submit={submit}>
      <Field label="User"><select value={user} onChange={(e) => setUser(e.currentTarget.value)}>{users.map((u) => <option key={u}>{u}</option>)}</select></Field>
      <Field label="Ends after days" hint="Empty: it does not end by itself."><input type="number" min={1} value={days} onInput={(e) => setDays(e.currentTarget.value)} /></Field>
      <Field label="Limit (a policy document)" hint="With it the key is a service account: it may do what the user may and this allows."><textarea rows={6} spellcheck={false} value={policy} onInput={(e) => setPolicy(e.currentTarget.value)} /></Field>
    </Form>
  );
}

function Keys() {
  const keys = useLoad(() => get<Key[]>("/api/v1/keys"), []);
  const users = useLoad(() => get<User[]>("/api/v1/users"), []);
  const [open, setOpen] = useState(false);
  const [made, setMade] = useState<Made | null>(null);
  const [gone, remove] = useState("");
  const rotate = (k: Key) => attempt(async () => { setMade(await call<Made>("POST", `/api/v1/keys/${enc(k.access_key)}/rotate?grace=24h`)); keys.reload(); }, "The old key ends in 24 hours.");
  const set = (k: Key, disabled: boolean) => attempt(() => call("PATCH", `/api/v1/keys/${enc(k.access_key)}`, { disabled })).then(keys.reload);
  return (
    <>
      <Trouble error={keys.error} />
      <Card flush title="Access keys" side={me.value!.admin && <button class="primary" disabled={!users.value?.length} onClick={() => setOpen(true)}>Create key</button>}>
        {keys.value?.length === 0 ? <Empty title="No keys yet">Creating a user makes its first key.</Empty> : (
          <div class="wide" tabIndex={0}><table><thead><tr><th>Access key</th><th>User</th><th>State</th><th class="hide-small">Last used</th><th class="hide-small">Ends</th><th><span class="hidden">Change</span></th></tr></thead>
            <tbody>{keys.value?.map((k) => (
              <tr key={k.access_key}><td class="mono break">{k.access_key}</td><td class="break">{k.user}{k.policy && <> <Pill state="none" text="limited" /></>}</td><td><Pill state={k.disabled ? "disabled" : "active"} /></td><td class="hide-small nowrap" title={when(k.last_used)}>{ago(k.last_used)}</td><td class="hide-small nowrap">{k.expires ? when(k.expires) : "never"}</td>
                <td class="act">{me.value!.admin && <span class="row"><button aria-label={`Rotate ${k.access_key}`} onClick={() => rotate(k)}>Rotate</button><button aria-label={`${k.disabled ? "Enable" : "Disable"} ${k.access_key}`} onClick={() => set(k, !k.disabled)}>{k.disabled ? "Enable" : "Disable"}</button><button class="danger" aria-label={`Remove ${k.access_key}`} onClick={() => remove(k.access_key)}>Remove</button></span>}</td></tr>
            ))}</tbody></table></div>
        )}
      </Card>
      <Cli line="cairn key ls" />
      {open && <KeyForm users={(users.value ?? []).map((u) => u.name)} close={() => setOpen(false)} done={(m) => { keys.reload(); setMade(m); }} />}
      {made && <Secret made={made} close={() => setMade(null)} />}
      {gone && <Confirm title="Remove this key?" action="Remove" close={() => remove("")} submit={async () => { await call("DELETE", `/api/v1/keys/${enc(gone)}`); remove(""); keys.reload(); }}><p><code>{gone}</code> ends at once, and so do sessions that it began.</p></Confirm>}
    </>
  );
}

const exampleStatement = `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["arn:aws:s3:::models", "arn:aws:s3:::models/*"]}
  ]
}`;

function Policies() {
  const list = useLoad(() => get<Policy[]>("/api/v1/policies"), []);
  const [edit, setEdit] = useState<{ name: string; document: string; fresh: boolean; builtin?: boolean } | null>(null);
  const [gone, remove] = useState("");
  const save = async () => {
    JSON.parse(edit!.document); // says where it is wrong
    await call("PUT", `/api/v1/policies/${enc(edit!.name)}`, JSON.parse(edit!.document));
    setEdit(null);
    list.reload();
    toast("Saved.");
  };
  const pretty = (d: string) => JSON.stringify(JSON.parse(d), null, 2);
  return (
    <>
      <Trouble error={list.error} />
      <Card flush title="Policies" side={me.value!.admin && <button class="primary" onClick={() => setEdit({ name: "", document: exampleStatement, fresh: true })}>Create policy</button>}>
        <div class="wide" tabIndex={0}><table><thead><tr><th>Name</th><th>Kind</th><th class="hide-small">Changed</th><th><span class="hidden">Change</span></th></tr></thead>
          <tbody>{list.value?.map((p) => <tr key={p.name}><td class="break"><b>{p.name}</b></td><td>{p.builtin ? "built in" : "your own"}</td><td class="hide-small">{ago(p.updated)}</td>
            <td class="act"><span class="row"><button aria-label={`${p.builtin || !me.value!.admin ? "Show" : "Edit"} ${p.name}`} onClick={() => setEdit({ name: p.name, document: pretty(p.document), fresh: false, builtin: p.builtin || !me.value!.admin })}>{p.builtin || !me.value!.admin ? "Show" : "Edit"}</button>{!p.builtin && me.value!.admin && <button class="danger" aria-label={`Remove ${p.name}`} onClick={() => remove(p.name)}>Remove</button>}</span></td></tr>)}</tbody></table></div>
      </Card>
      <Cli line="cairn policy ls" />
      {edit?.builtin && <Dialog title={edit.name} wider close={() => setEdit(null)}><textarea readOnly rows={16} aria-label="Document" value={edit.document} /><footer><button onClick={() => setEdit(null)}>Close</button></footer></Dialog>}
      {edit && !edit.builtin && (
        <Form title={edit.fresh ? "Create a policy" : edit.name} action="Save" wider close={() => setEdit(null)} submit={save}>
          {edit.fresh && <Field label="Name"><input name="policy" value={edit.name} onInput={(e) => setEdit({ ...edit, name: e.currentTarget.value })} required maxLength={64} spellcheck={false} /></Field>}
          <Field label="Document" hint="AWS's policy language. Actions of the store itself are cairn:…, and need Resource *."><textarea name="document" rows={16} spellcheck={false} value={edit.document} onInput={(e) => setEdit({ ...edit, document: e.currentTarget.value })} /></Field>
        </Form>
      )}
      {gone && <Confirm title={`Remove ${gone}?`} action="Remove" close={() => remove("")} submit={async () => { await call("DELETE", `/api/v1/policies/${enc(gone)}`); remove(""); list.reload(); }}><p>A policy that somebody has cannot be removed.</p></Confirm>}
    </>
  );
}

function Groups() {
  const list = useLoad(() => get<Group[]>("/api/v1/groups"), []);
  const policies = useLoad(() => get<Policy[]>("/api/v1/policies"), []);
  const [edit, setEdit] = useState<(Group & { fresh: boolean }) | null>(null);
  const save = async () => {
    await call("PUT", `/api/v1/groups/${enc(edit!.name)}`, { name: edit!.name, policies: edit!.policies ?? [] });
    setEdit(null);
    list.reload();
  };
  return (
    <>
      <Trouble error={list.error} />
      <Card flush title="Groups" side={me.value!.admin && <button class="primary" onClick={() => setEdit({ name: "", policies: [], fresh: true })}>Create group</button>}>
        {list.value?.length === 0 ? <Empty title="No groups yet">A group gives its policies to everybody in it.</Empty> : (
          <div class="wide" tabIndex={0}><table><thead><tr><th>Name</th><th>Policies</th><th><span class="hidden">Change</span></th></tr></thead><tbody>{list.value?.map((g) => <tr key={g.name}><td><b>{g.name}</b></td><td class="break">{(g.policies ?? []).join(", ")}</td>
            <td class="act">{me.value!.admin && <span class="row"><button aria-label={`Edit ${g.name}`} onClick={() => setEdit({ ...g, fresh: false })}>Edit</button><button class="danger" aria-label={`Remove ${g.name}`} onClick={() => attempt(() => call("DELETE", `/api/v1/groups/${enc(g.name)}`), "The group is gone.").then(list.reload)}>Remove</button></span>}</td></tr>)}</tbody></table></div>
        )}
      </Card>
      <Cli line="cairn group ls" />
      {edit && <Form title={edit.fresh ? "Create a group" : edit.name} action="Save" close={() => setEdit(null)} submit={save}>{edit.fresh && <Field label="Name"><input value={edit.name} onInput={(e) => setEdit({ ...edit, name: e.currentTarget.value })} required maxLength={64} /></Field>}<Choose label="Policies" all={(policies.value ?? []).map((p) => p.name)} chosen={edit.policies ?? []} choose={(l) => setEdit({ ...edit, policies: l })} /></Form>}
    </>
  );
}

function Simulator() {
  const users = useLoad(() => get<User[]>("/api/v1/users"), []);
  const [q, set] = useState({ user: "", action: "s3:GetObject", bucket: "", key: "" });
  const [answer, setAnswer] = useState<{ verdict: string; why: string } | null>(null);
  const ask = (e: Event) => {
    e.preventDefault();
    attempt(async () => setAnswer(await call("POST", "/api/v1/simulate", q)));
  };
  const field = (name: keyof typeof q, label: string, hint: string) => <Field label={label} hint={hint}><input name={name} value={q[name]} onInput={(e) => set({ ...q, [name]: e.currentTarget.value })} spellcheck={false} /></Field>;
  return (
    <Card title="May X do Y on Z?">
      <form class="stack" onSubmit={ask}>
        <div class="grid">
          <Field label="User" hint="Nobody: a request without credentials"><select name="user" value={q.user} onChange={(e) => set({ ...q, user: e.currentTarget.value })}><option value="">Nobody</option>{(users.value ?? []).map((u) => <option key={u.name}>{u.name}</option>)}</select></Field>
          {field("action", "Action", "for example s3:PutObject, cairn:DrainDrive")}{field("bucket", "Bucket", "empty for actions on no bucket")}{field("key", "Object key", "empty for actions on the bucket")}
        </div>
        <div class="row"><button class="primary">Ask</button>{answer && <span class="row" role="status" data-verdict={answer.verdict}><span class={"pill " + (answer.verdict === "allowed" ? "ok" : "lost")}><Icon name={answer.verdict === "allowed" ? "ok" : "missing"} />{answer.verdict}</span>{answer.why}</span>}</div>
        <p class="soft small">The same code decides as for real requests: the user's and its groups' policies, the bucket's policy, who owns the bucket. Access control lists are not asked.</p>
      </form>
      <Cli line={`cairn policy simulate ${q.user || "USER"} ${q.action}${q.bucket ? ` ${q.bucket}${q.key ? "/" + q.key : ""}` : ""}`} />
    </Card>
  );
}

const views: Record<string, [string, () => any]> = { users: ["Users", Users], keys: ["Keys", Keys], policies: ["Policies", Policies], groups: ["Groups", Groups], simulator: ["Simulator", Simulator] };

export function Access({ tab }: { tab: string }) {
  const View = (views[tab] ?? views.users)[1];
  return (
    <div class="page">
      <div class="head"><h1>Access</h1></div>
      <Tabs at={"#/access/" + tab} tabs={Object.entries(views).map(([k, v]) => ["#/access/" + k, v[0]])} />
      {!me.value!.admin && <p class="note">You may look. Only administrators change who may do what.</p>}
      <View key={tab} />
    </div>
  );
}
