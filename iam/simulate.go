package iam

import (
	"context"
	"fmt"

	"cairn"
)

// Simulation asks whether a user, or one of its keys, may do something. Access control lists are not asked.
type Simulation struct {
	User   string `json:"user"`                 // name; "" for nobody
	Key    string `json:"access_key,omitempty"` // one of the user's keys, whose own policy limits it; "" for none
	Action string `json:"action"`
	Bucket string `json:"bucket,omitempty"`
	Object string `json:"key,omitempty"`   // the object's key
	Owner  string `json:"owner,omitempty"` // of the bucket: a user's name; default the user itself
	// OwnerID, if set, counts for more than Owner: the canonical ID of the account. BucketPolicy is the bucket's.
	OwnerID      string              `json:"-"`
	BucketPolicy *Policy             `json:"-"`
	Values       map[string][]string `json:"values,omitempty"` // condition keys
}

// Simulated is the verdict, and what decided.
type Simulated struct {
	Verdict   string `json:"verdict"`             // "allowed" or "denied"
	Why       string `json:"why"`                 // in one sentence
	Policy    string `json:"policy,omitempty"`    // that decided: a name, "the bucket's policy" or "the key's policy"
	Statement string `json:"statement,omitempty"` // of that policy: its Sid, or "Statement[0]"
}

// Simulate asks evaluate, and then finds the statement that decided. Errors: ErrNotFound for a user or key.
func (s *Store) Simulate(ctx context.Context, q Simulation) (v Simulated, err error) {
	n, err := s.fresh(ctx)
	if err != nil {
		return v, err
	}
	id, r, err := s.simulated(n, &q)
	if err != nil {
		return v, &cairn.Error{Op: "iam.simulate", Subject: q.User, Err: err}
	}
	v = explain(&id, r)
	if v.Verdict = "denied"; evaluate(&id, r) == allow {
		v.Verdict = "allowed"
	}
	return v, nil
}

// simulated makes the identity and the request of a simulation.
func (s *Store) simulated(n *snapshot, q *Simulation) (id Identity, r *Request, err error) {
	r = &Request{Action: q.Action, Bucket: q.Bucket, Key: q.Object, Policy: q.BucketPolicy, Values: valueMap(q.Values)}
	switch u := n.users[q.User]; {
	case q.User == "":
	case q.User == s.root.Name:
		id = s.root
	case u == nil:
		return id, nil, fmt.Errorf("user: %w", cairn.ErrNotFound)
	default:
		id = u.identity()
		id.grants = n.grants[q.User]
	}
	if q.Key != "" {
		k := n.keys[q.Key]
		if k == nil || k.User != q.User {
			return id, nil, fmt.Errorf("key %s: %w", q.Key, cairn.ErrNotFound)
		}
		id = k.identity
	}
	r.Owner = id.Account
	switch owner := n.users[q.Owner]; {
	case q.OwnerID != "":
		r.Owner = q.OwnerID
	case q.Owner == "":
	case q.Owner == s.root.Name:
		r.Owner = s.root.Account
	case owner == nil:
		return id, nil, fmt.Errorf("owner %s: %w", q.Owner, cairn.ErrNotFound)
	default:
		r.Owner = owner.ID
	}
	return id, r, nil
}

// explain names what decides about a request, in the order in which evaluate lets things decide.
func explain(id *Identity, r *Request) Simulated {
	of := func(name string, p *Policy, at int, verb string) Simulated {
		statement := fmt.Sprintf("Statement[%d]", at)
		if sid := p.Statements[at].Sid; sid != "" {
			statement = sid
		}
		return Simulated{Why: fmt.Sprintf("%s of %s %s it.", statement, name, verb), Policy: name, Statement: statement}
	}
	const ofBucket, ofKey = "the bucket's policy", "the key's policy"
	if id.Root && (r.Policy == nil || aboutPolicy(r.Action)) {
		return Simulated{Why: "The root identity may do everything."}
	}
	if a, at := r.Policy.decide(id, r); a == denies {
		return of(ofBucket, r.Policy, at, "denies")
	}
	if id.Root {
		return Simulated{Why: "The root identity may do everything that the bucket's policy does not deny."}
	}
	if id.grants != nil {
		for i, p := range id.grants.policies {
			if a, at := p.decide(id, r); a == denies {
				return of(id.grants.names[i], p, at, "denies")
			}
		}
		for _, p := range id.grants.limits {
			switch a, at := p.decide(id, r); a {
			case denies:
				return of(ofKey, p, at, "denies")
			case silent:
				return Simulated{Why: "The key's policy does not allow it, and a key may do no more than that.", Policy: ofKey}
			}
		}
		for i, p := range id.grants.policies {
			if a, at := p.decide(id, r); a == allows {
				return of(id.grants.names[i], p, at, "allows")
			}
		}
	}
	if a, at := r.Policy.decide(id, r); a == allows {
		return of(ofBucket, r.Policy, at, "allows")
	}
	if id.admin() {
		return Simulated{Why: "Administrators may do what nothing denies them.", Policy: AdminPolicy}
	}
	return Simulated{Why: "No policy allows it, and what nothing allows is denied."}
}

// valueMap is Values from a map with keys in any case.
type valueMap map[string][]string

// Values implements Values.
func (m valueMap) Values(key string) []string {
	for k, v := range m {
		if conditionKey(k) == key {
			return v
		}
	}
	return nil
}
