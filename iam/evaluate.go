package iam

// Request is what somebody wants to do, and what is needed to decide about it.
type Request struct {
	Action string // in AWS's form, "service:Operation"
	Bucket string // "" for actions on the account
	Key    string // "" for actions on the bucket
	// Owner is the account that owns the bucket, "" for a bucket that is not there.
	Owner string
	// Policy of the bucket, nil for none.
	Policy *Policy
	// DenialsOnly: what the bucket's policy allows does not count, what it denies does (S3's RestrictPublicBuckets).
	DenialsOnly bool
	// Granted: an access control list grants the action.
	Granted bool
	// OtherOwner: the object belongs to another account than the bucket, so that neither the policies of those who ask nor
	// the bucket's allow anything: only a grant does. Denials count as ever.
	OtherOwner bool
	// Values gives the request's condition keys; nil for none.
	Values Values
}

// verdict is the outcome of an evaluation. Its zero value is a denial.
type verdict uint8

const (
	deny verdict = iota
	allow
)

// answer of one policy.
type answer uint8

const (
	silent answer = iota
	allows
	denies
)

// evaluate decides, from values alone. A denial in any policy wins; what nothing allows is denied; a request without an action
// is a mistake of the caller, and denied to the root identity too.
//
// The root identity may do everything, but for what the policy of a bucket denies it: even then it may change that policy, so
// that no bucket can be locked away.
func evaluate(id *Identity, r *Request) verdict {
	switch {
	case r.Action == "":
		return deny
	case id.Root && !id.Anonymous() && (r.Policy == nil || aboutPolicy(r.Action)):
		return allow
	}
	ofBucket := r.Policy.ask(id, r)
	if ofBucket == denies {
		return deny
	}
	if r.DenialsOnly {
		ofBucket = silent
	}
	if id.Anonymous() {
		return verdictOf(ofBucket == allows && !r.OtherOwner || r.Granted)
	}
	if id.Root {
		return allow
	}
	ofIdentity := id.grants.ask(id, r)
	if ofIdentity == denies || !id.grants.within(id, r) {
		return deny
	}
	return verdictOf(r.Granted || !r.OtherOwner && (ofIdentity == allows || ofBucket == allows) || id.admin())
}

func verdictOf(ok bool) verdict {
	if ok {
		return allow
	}
	return deny
}

func aboutPolicy(action string) bool {
	return action == "s3:GetBucketPolicy" || action == "s3:PutBucketPolicy" || action == "s3:DeleteBucketPolicy"
}

// grants are the policies of a user at one moment.
type grants struct {
	policies []*Policy
	names    []string // of policies, in the same order
	// limits narrow what the policies allow: those of a service account and of a session. Each must allow what is done.
	limits []*Policy
	admin  bool
}

func (g *grants) ask(id *Identity, r *Request) answer {
	if g == nil {
		return silent
	}
	found := silent
	for _, p := range g.policies {
		found = max(found, p.ask(id, r))
	}
	return found
}

func (g *grants) within(id *Identity, r *Request) bool {
	if g == nil {
		return true
	}
	for _, p := range g.limits {
		if p.ask(id, r) != allows {
			return false
		}
	}
	return true
}

// ask returns what a policy says about a request; a nil policy says nothing.
func (p *Policy) ask(id *Identity, r *Request) answer {
	found, _ := p.decide(id, r)
	return found
}

// decide is ask, and tells which statement it was.
func (p *Policy) decide(id *Identity, r *Request) (found answer, at int) {
	if p == nil {
		return silent, 0
	}
	q := &asked{id: id, r: r, name: r.Bucket}
	if r.Key != "" {
		q.name += "/" + r.Key
	}
	for i := range p.Statements {
		st := &p.Statements[i]
		if !st.Deny && found == allows || !st.applies(q) {
			continue
		}
		if st.Deny {
			return denies, i
		}
		found, at = allows, i
	}
	return found, at
}

// applies asks the cheap questions first.
func (st *Statement) applies(q *asked) bool {
	if st.actions != nil && !fitsAny(st.actions, q.r.Action) || st.notActions != nil && fitsAny(st.notActions, q.r.Action) {
		return false
	}
	if st.principals != nil && !anyIs(st.principals, q.id) || st.notPrincipals != nil && anyIs(st.notPrincipals, q.id) {
		return false
	}
	if !st.Deny && ofCairn(q.r.Action) && (st.resources == nil || !st.everything) {
		return false // "all objects of all buckets" is not "everything"
	}
	if st.resources != nil && !q.namedBy(st.resources) || st.notResources != nil && q.namedBy(st.notResources) {
		return false
	}
	for i := range st.conditions {
		if !st.conditions[i].holds(q) {
			return false
		}
	}
	return true
}

func fitsAny(list []pattern, action string) bool {
	for i := range list {
		if list[i].match(action, true, nil) {
			return true
		}
	}
	return false
}

// asked is one request put to one policy. It adds to the request's values those that the identity and the bucket give.
type asked struct {
	id   *Identity
	r    *Request
	name string // of the bucket or object, as resources name it
}

// namedBy tells whether one of the patterns names the request's bucket or object.
func (q *asked) namedBy(list []pattern) bool {
	for i := range list {
		if list[i].match(q.name, false, q) {
			return true
		}
	}
	return false
}

// Values implements Values.
func (q *asked) Values(key string) []string {
	s := ""
	switch key {
	case "aws:username":
		if q.id.Role == "" {
			s = q.id.Name
		}
	case "aws:userid":
		s = q.id.Account
		if q.id.Role != "" {
			s += ":" + q.id.Session
		}
	case "aws:principalaccount":
		s = q.id.Number
	case "aws:principalarn":
		s = q.id.ARN()
	case "aws:principaltype":
		s = q.id.kind()
	case "aws:resourceaccount", "s3:resourceaccount":
		// The account of one's own bucket is one's number, so that policies compare it with aws:PrincipalAccount.
		if s = q.r.Owner; s == q.id.Account {
			s = q.id.Number
		}
	default:
		return valuesOf(q.r.Values, key)
	}
	if s == "" {
		return nil
	}
	return []string{s}
}
