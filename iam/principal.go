package iam

import "strings"

// principal is one of those whom a statement of a bucket policy is about.
type principal struct {
	kind principalKind
	// account is the number or canonical ID in an ARN, "" if it names none.
	account string
	// name is a user's name or canonical ID; of a bare word, a name, ID or account number.
	name string
}

type principalKind uint8

const (
	everyone    principalKind = iota // "*"
	account                          // an account as a whole: its number, its canonical ID, arn:aws:iam::N:root
	user                             // arn:aws:iam::N:user/NAME
	role                             // arn:aws:iam::N:role/NAME, arn:aws:sts::N:assumed-role/…: matched by a session's role
	canonical                        // {"CanonicalUser": ID}
	noPrincipal                      // services and federations, of which Cairn has none
)

// readPrincipals reads the value of Principal.
func readPrincipals(v any, at string) ([]principal, error) {
	if s, ok := v.(string); ok {
		if s == "*" {
			return []principal{{kind: everyone}}, nil
		}
		p, ok := awsPrincipal(s)
		if !ok || p.kind != account {
			return nil, errPrincipal(at)
		}
		return []principal{p}, nil
	}
	members, ok := v.(object)
	if !ok || len(members) == 0 {
		return nil, errPrincipal(at)
	}
	var out []principal
	for _, m := range members {
		list, err := stringsOf(m.value, at+"."+m.name)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, errPrincipal(at)
		}
		for _, s := range list {
			p, ok := readPrincipal(m.name, s)
			if !ok {
				return nil, errPrincipal(at + "." + m.name)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func errPrincipal(at string) error { return wrong(at, "Invalid principal in policy") }

func readPrincipal(kind, s string) (principal, bool) {
	switch kind {
	case "AWS":
		return awsPrincipal(s)
	case "CanonicalUser":
		return principal{kind: canonical, name: s}, s != "" && !strings.Contains(s, "*")
	case "Service", "Federated":
		return principal{kind: noPrincipal, name: s}, s != ""
	}
	return principal{}, false
}

// awsPrincipal reads "*", an ARN of IAM or STS, or a bare account number, canonical ID or user's name.
func awsPrincipal(s string) (principal, bool) {
	if s == "*" {
		return principal{kind: everyone}, true
	}
	rest, isARN := strings.CutPrefix(s, "arn:")
	if !isARN {
		return principal{kind: account, name: s}, s != "" && !strings.ContainsAny(s, "*/ ")
	}
	f := strings.SplitN(rest, ":", 5) // partition, service, region, account, resource
	if len(f) != 5 || !strings.HasPrefix(f[0], "aws") || f[2] != "" || strings.Contains(f[3], "*") {
		return principal{}, false
	}
	kind, path, _ := strings.Cut(f[4], "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case f[1] == "iam" && f[4] == "root" && f[3] != "":
		return principal{kind: account, name: f[3]}, true
	case strings.Contains(path, "*") || name == "":
		return principal{}, false
	case f[1] == "iam" && kind == "user":
		return principal{kind: user, account: f[3], name: name}, true
	case f[1] == "iam" && kind == "role":
		return principal{kind: role, account: f[3], name: name}, true
	case f[1] == "sts" && kind == "assumed-role":
		name, _, _ = strings.Cut(path, "/")
		return principal{kind: role, account: f[3], name: name}, true
	}
	return principal{}, false
}

// is tells whether the principal stands for an identity.
func (p *principal) is(id *Identity) bool {
	switch p.kind {
	case everyone:
		return true
	case noPrincipal:
		return false
	}
	if id.Anonymous() {
		return false
	}
	switch p.kind {
	case canonical:
		return p.name == id.Account
	case account:
		return p.name == id.Account || p.name == id.Number || p.name == id.Name
	case user:
		return (p.name == id.Name || p.name == id.Account) && p.ofAccount(id)
	case role:
		return id.Role != "" && p.name == id.Role && p.ofAccount(id)
	}
	return false
}

func (p *principal) ofAccount(id *Identity) bool {
	return p.account == "" || p.account == id.Number || p.account == id.Account
}

func anyIs(list []principal, id *Identity) bool {
	for i := range list {
		if list[i].is(id) {
			return true
		}
	}
	return false
}
