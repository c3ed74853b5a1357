package iam

import "slices"

// Permission is what a grant of an access control list gives.
type Permission string

// The permissions of S3.
const (
	PermRead        Permission = "READ"
	PermWrite       Permission = "WRITE"
	PermReadACP     Permission = "READ_ACP"
	PermWriteACP    Permission = "WRITE_ACP"
	PermFullControl Permission = "FULL_CONTROL"
)

// The groups of S3, by URI.
const (
	AllUsers           = "http://acs.amazonaws.com/groups/global/AllUsers"
	AuthenticatedUsers = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
	LogDelivery        = "http://acs.amazonaws.com/groups/s3/LogDelivery"
)

// Grant gives one permission to an account (by canonical ID) or a group (by URI).
type Grant struct {
	ID         string     `json:"id,omitempty"`
	Group      string     `json:"group,omitempty"`
	Permission Permission `json:"permission"`
}

// ACL is an access control list: of a bucket, or of a version.
type ACL struct {
	Owner  string  `json:"owner"`
	Grants []Grant `json:"grants"`
}

// PrivateACL is the list of what has none: its owner has full control.
func PrivateACL(owner string) ACL {
	return ACL{Owner: owner, Grants: []Grant{{ID: owner, Permission: PermFullControl}}}
}

// CannedACL makes the list that a canned name stands for; owner owns the thing, bucketOwner the bucket. false: no such name.
func CannedACL(name, owner, bucketOwner string) (ACL, bool) {
	a := PrivateACL(owner)
	add := func(g ...Grant) { a.Grants = append(a.Grants, g...) }
	switch name {
	case "private", "aws-exec-read":
	case "public-read":
		add(Grant{Group: AllUsers, Permission: PermRead})
	case "public-read-write":
		add(Grant{Group: AllUsers, Permission: PermRead}, Grant{Group: AllUsers, Permission: PermWrite})
	case "authenticated-read":
		add(Grant{Group: AuthenticatedUsers, Permission: PermRead})
	case "log-delivery-write":
		add(Grant{Group: LogDelivery, Permission: PermWrite}, Grant{Group: LogDelivery, Permission: PermReadACP})
	case "bucket-owner-read":
		if owner != bucketOwner {
			add(Grant{ID: bucketOwner, Permission: PermRead})
		}
	case "bucket-owner-full-control":
		if owner != bucketOwner {
			add(Grant{ID: bucketOwner, Permission: PermFullControl})
		}
	default:
		return ACL{}, false
	}
	return a, true
}

// Allows tells whether the list gives an identity a permission.
func (a *ACL) Allows(id *Identity, want Permission) bool {
	return slices.ContainsFunc(a.Grants, func(g Grant) bool {
		return (g.Permission == want || g.Permission == PermFullControl) && g.to(id)
	})
}

func (g *Grant) to(id *Identity) bool {
	switch g.Group {
	case AllUsers:
		return true
	case AuthenticatedUsers:
		return !id.Anonymous()
	case "":
		return !id.Anonymous() && g.ID == id.Account
	}
	return false
}

// Public tells whether the list gives a group of everybody anything.
func (a *ACL) Public() bool {
	return slices.ContainsFunc(a.Grants, func(g Grant) bool { return g.Group == AllUsers || g.Group == AuthenticatedUsers })
}

// WithoutPublic is the same list without what it gives to everybody.
func (a *ACL) WithoutPublic() ACL {
	out := ACL{Owner: a.Owner}
	for _, g := range a.Grants {
		if g.Group != AllUsers && g.Group != AuthenticatedUsers {
			out.Grants = append(out.Grants, g)
		}
	}
	return out
}
