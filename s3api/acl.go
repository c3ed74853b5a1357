package s3api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"cairn"
	"cairn/iam"
	"cairn/meta"
)

var (
	errMalformedACL = newError(400, "MalformedACLError", "The XML you provided was not well-formed or did not validate against our published schema")
	errNoSuchEmail  = newError(400, "UnresolvableGrantByEmailAddress", "The email address you provided does not match any account on record.")
)

// anonymousOwner owns what nobody known wrote, as in S3.
const anonymousOwner = "65a011a29cdf8ec533ec3d1ccaae921c"

// maxGrants is S3's limit for one list.
const maxGrants = 100

// fullControlACL is the canned list that a bucket without lists still takes.
const fullControlACL = "bucket-owner-full-control"

// grantHeaders give grants one permission each.
var grantHeaders = [...]struct {
	name string
	perm iam.Permission
}{
	{"X-Amz-Grant-Read", iam.PermRead},
	{"X-Amz-Grant-Write", iam.PermWrite},
	{"X-Amz-Grant-Read-Acp", iam.PermReadACP},
	{"X-Amz-Grant-Write-Acp", iam.PermWriteACP},
	{"X-Amz-Grant-Full-Control", iam.PermFullControl},
}

// requestedACL reads the list that headers ask for; given is false if none does.
func (c *call) requestedACL(owner, bucketOwner string) (acl iam.ACL, given bool, err error) {
	canned := c.header("X-Amz-Acl")
	acl.Owner = owner
	for _, h := range grantHeaders {
		value := c.header(h.name)
		if value == "" {
			continue
		}
		if canned != "" {
			return acl, true, errInvalidRequest.with("Specifying both Canned ACLs and Header Grants is not allowed")
		}
		given = true
		for one := range strings.SplitSeq(value, ",") {
			g, err := c.parseGrantee(strings.TrimSpace(one))
			if err != nil {
				return acl, true, err
			}
			g.Permission = h.perm
			acl.Grants = append(acl.Grants, g)
		}
	}
	if len(acl.Grants) > maxGrants {
		return acl, true, errInvalidRequest.with("An access control list has at most 100 grants.")
	}
	if canned == "" {
		if !given {
			acl = iam.PrivateACL(owner)
		}
		return acl, given, nil
	}
	acl, ok := iam.CannedACL(canned, owner, bucketOwner)
	if !ok {
		return acl, true, errInvalidArgument.with("", field{"ArgumentName", "x-amz-acl"}, field{"ArgumentValue", canned})
	}
	return acl, true, nil
}

// parseGrantee reads id="…", uri="…" or emailAddress="…".
func (c *call) parseGrantee(s string) (g iam.Grant, err error) {
	kind, value, ok := strings.Cut(s, "=")
	value = strings.Trim(strings.TrimSpace(value), `"`)
	if !ok {
		return g, errInvalidArgument.with("Argument format not recognized", field{"ArgumentValue", s})
	}
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "id":
		return c.grantee(value, "", "")
	case "uri":
		return c.grantee("", value, "")
	case "emailaddress":
		return c.grantee("", "", value)
	}
	return g, errInvalidArgument.with("Argument format not recognized", field{"ArgumentValue", s})
}

// grantee finds out who is meant. Exactly one of the three is given.
func (c *call) grantee(id, uri, email string) (g iam.Grant, err error) {
	switch {
	case id != "":
		if _, known := c.srv.cfg.Identities.AccountOf(id); !known && id != anonymousOwner {
			return g, errInvalidArgument.with("Invalid id", field{"ArgumentName", "CanonicalUser/ID"}, field{"ArgumentValue", id})
		}
		g.ID = id
	case uri != "":
		if uri != iam.AllUsers && uri != iam.AuthenticatedUsers && uri != iam.LogDelivery {
			return g, errInvalidArgument.with("Invalid group uri", field{"ArgumentName", "uri"}, field{"ArgumentValue", uri})
		}
		g.Group = uri
	default:
		a, known := c.srv.cfg.Identities.AccountByEmail(email)
		if !known {
			return g, errNoSuchEmail.with("", field{"ArgumentName", "email"}, field{"ArgumentValue", email})
		}
		g.ID = a.ID
	}
	return g, nil
}

type aclDoc struct {
	Owner *struct{ ID, DisplayName string }
	List  *struct {
		Grant []struct {
			Grantee struct {
				Type         string `xml:"type,attr"`
				ID           string
				URI          string
				EmailAddress string
			}
			Permission string
		}
	} `xml:"AccessControlList"`
}

// documentACL reads the list in a request's document.
func (c *call) documentACL(doc []byte, owner string) (acl iam.ACL, err error) {
	var d aclDoc
	if decodeXML(doc, "AccessControlPolicy", &d) != nil || d.Owner == nil || d.List == nil || len(d.List.Grant) > maxGrants {
		return acl, errMalformedACL
	}
	if d.Owner.ID != owner {
		return acl, errAccessDenied // a list does not give away what it is about
	}
	acl.Owner = owner
	for _, one := range d.List.Grant {
		who := one.Grantee
		perm := iam.Permission(one.Permission)
		if !slices.ContainsFunc(grantHeaders[:], func(h struct {
			name string
			perm iam.Permission
		}) bool {
			return h.perm == perm
		}) {
			return acl, errMalformedACL
		}
		switch {
		case who.Type == "CanonicalUser" && who.ID != "":
			who.URI, who.EmailAddress = "", ""
		case who.Type == "Group" && who.URI != "":
			who.ID, who.EmailAddress = "", ""
		case who.Type == "AmazonCustomerByEmail" && who.EmailAddress != "":
			who.ID, who.URI = "", ""
		default:
			return acl, errMalformedACL
		}
		g, err := c.grantee(who.ID, who.URI, who.EmailAddress)
		if err != nil {
			return acl, err
		}
		g.Permission = perm
		acl.Grants = append(acl.Grants, g)
	}
	return acl, nil
}

// check refuses a list, canned under a name ("" if it is not), that the bucket does not allow.
func (a *access) check(acl *iam.ACL, canned string) error {
	if !a.aclsEnabled() && !ownersOnly(acl, a.row.Owner) || a.strict() && canned != "" && canned != fullControlACL {
		return errACLNotSupported
	}
	if a.block.BlockPublicAcls && acl.Public() {
		return errAccessDenied
	}
	return nil
}

// ownersOnly tells whether a list gives full control to its owner and the bucket's, and nobody else anything: what holds
// without lists, too.
func ownersOnly(acl *iam.ACL, bucketOwner string) bool {
	for _, g := range acl.Grants {
		if g.Permission != iam.PermFullControl || g.ID == "" || g.ID != acl.Owner && g.ID != bucketOwner {
			return false
		}
	}
	return len(acl.Grants) > 0
}

// encodeACL is how a list is kept; "" for the one that everything has without asking.
func encodeACL(acl *iam.ACL) (string, error) {
	if len(acl.Grants) == 1 && acl.Grants[0] == (iam.Grant{ID: acl.Owner, Permission: iam.PermFullControl}) {
		return "", nil
	}
	b, err := json.Marshal(acl)
	return string(b), err
}

// ownership decides who will own an object that the request writes, and its list.
func (c *call) ownership() (owner, acl string, err error) {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return "", "", err
	}
	owner = c.who.Account
	if c.who.Anonymous() {
		owner = anonymousOwner
	}
	canned := c.header("X-Amz-Acl")
	if a.ownership == ownerEnforced || a.ownership == ownerPreferred && canned == fullControlACL {
		owner = a.row.Owner
	}
	want, given, err := c.requestedACL(owner, a.row.Owner)
	if err != nil || !given {
		return owner, "", err
	}
	if err := a.check(&want, canned); err != nil {
		return "", "", err
	}
	acl, err = encodeACL(&want)
	return owner, acl, err
}

// bucketACL decides on ownership controls and list of a bucket that is being made.
func (c *call) bucketACL() (cairn.Configs, error) {
	configs := cairn.Configs{}
	ownership := c.srv.cfg.ObjectOwnership
	if s := c.header("X-Amz-Object-Ownership"); s != "" {
		if !validOwnership(s) {
			return nil, errInvalidArgument.with("Invalid x-amz-object-ownership header: "+s, field{"ArgumentName", "x-amz-object-ownership"},
				field{"ArgumentValue", s})
		}
		ownership, configs[ownershipConfig] = s, s
	}
	acl, given, err := c.requestedACL(c.who.Account, c.who.Account)
	if err != nil || !given {
		return configs, err
	}
	if ownership == ownerEnforced && !ownersOnly(&acl, c.who.Account) {
		return nil, errInvalidACLOwnership
	}
	stored, err := encodeACL(&acl)
	if stored != "" {
		configs[aclConfig] = stored
	}
	return configs, err
}

func (c *call) getBucketACL() error {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	return c.sendACL(a.acl)
}

func (c *call) getObjectACL() error {
	ref, err := c.ref()
	if err != nil {
		return err
	}
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Head(c.r.Context(), ref)
	if err != nil {
		return err
	}
	if v.DeleteMarker {
		return c.markerNotAllowed(&v)
	}
	acl, err := objectACL(&v)
	if err != nil {
		return err
	}
	if !a.aclsEnabled() { // lists from the time when they counted do not count
		acl = iam.PrivateACL(a.row.Owner)
	}
	c.setVersion(&v)
	return c.sendACL(acl)
}

func (c *call) sendACL(acl iam.ACL) error {
	return c.render(func(b []byte) []byte {
		b = append(b, `<AccessControlPolicy xmlns="`+xmlNamespace+`">`...)
		b = appendOwner(b, "Owner", c.account(acl.Owner))
		b = append(b, "<AccessControlList>"...)
		for _, g := range acl.Grants {
			b = c.appendGrant(b, g)
		}
		return append(b, "</AccessControlList></AccessControlPolicy>"...)
	})
}

func (c *call) appendGrant(b []byte, g iam.Grant) []byte {
	b = append(b, `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="`...)
	if g.Group != "" {
		b = append(b, `Group">`...)
		b = appendElement(b, "URI", g.Group)
	} else {
		who := c.account(g.ID)
		b = append(b, `CanonicalUser">`...)
		b = appendElement(b, "ID", who.ID)
		b = appendElement(b, "DisplayName", who.Name)
	}
	b = append(b, "</Grantee>"...)
	b = appendElement(b, "Permission", string(g.Permission))
	return append(b, "</Grant>"...)
}

func (c *call) account(id string) iam.Account {
	a, _ := c.srv.cfg.Identities.AccountOf(id)
	return a
}

// newACL reads the list that a request sets, from its headers or its document.
func (c *call) newACL() (func(owner, bucketOwner string) (iam.ACL, error), error) {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return nil, err
	}
	release() // the document is small enough not to count
	return func(owner, bucketOwner string) (iam.ACL, error) {
		acl, given, err := c.requestedACL(owner, bucketOwner)
		switch {
		case err != nil:
			return acl, err
		case given && len(doc) > 0:
			return acl, errUnexpectedContent
		case given:
			return acl, nil
		case len(doc) == 0:
			return acl, errMissingSecurity
		}
		return c.documentACL(doc, owner)
	}, nil
}

var (
	errUnexpectedContent = newError(400, "UnexpectedContent", "This request does not support content")
	errMissingSecurity   = newError(400, "MissingSecurityHeader", "Your request was missing a required header").
				with("", field{"MissingHeaderName", "x-amz-acl"})
)

func (c *call) putBucketACL() error {
	read, err := c.newACL()
	if err != nil {
		return err
	}
	stored := ""
	err = c.changeAccess(func(configs cairn.Configs) {
		if configs[aclConfig] = stored; stored == "" {
			delete(configs, aclConfig)
		}
	}, func(a *access) error {
		acl, err := read(a.row.Owner, a.row.Owner)
		if err == nil {
			err = a.check(&acl, c.header("X-Amz-Acl"))
		}
		if err == nil {
			stored, err = encodeACL(&acl)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.noContent(http.StatusOK)
}

func (c *call) putObjectACL() error {
	ref, err := c.ref()
	if err != nil {
		return err
	}
	read, err := c.newACL()
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Update(c.r.Context(), meta.UpdateVersion{Ref: ref, Change: func(b cairn.Bucket, v *cairn.Version) error {
		if v.DeleteMarker {
			return c.markerNotAllowed(v)
		}
		a, err := readAccess(b, c.srv.cfg.ObjectOwnership)
		if err != nil {
			return err
		}
		acl, err := read(v.Owner, b.Owner)
		if err == nil {
			err = a.check(&acl, c.header("X-Amz-Acl"))
		}
		if err == nil {
			v.ACL, err = encodeACL(&acl)
		}
		return err
	}})
	if err != nil {
		return err
	}
	c.setVersion(&v)
	return c.noContent(http.StatusOK)
}
