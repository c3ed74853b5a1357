package s3api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cairn"
	"cairn/iam"
	"cairn/meta"
)

// authorize asks whether the identity may do the operation's action, and what else its headers ask for.
func (c *call) authorize(action string) error {
	switch {
	case action != "":
		if err := c.mayDo(action, c.bucket, c.key); err != nil {
			return err
		}
	case c.who.Anonymous(): // asked for each key: nothing to ask where nobody unknown is let in
		a, err := c.srv.access(c.r.Context(), c.bucket)
		if err != nil {
			return err
		}
		if a.policy == nil && !a.acl.Public() {
			return errAccessDenied
		}
	}
	if err := c.mayAlso(); err != nil {
		return err
	}
	return c.checkOwner(c.header("X-Amz-Expected-Bucket-Owner"), c.bucket)
}

// mayAlso asks for the actions that headers of a writing request imply.
func (c *call) mayAlso() error {
	if c.key == "" || c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	for _, also := range [...]struct{ header, action string }{
		{"X-Amz-Acl", "s3:PutObjectAcl"},
		{"X-Amz-Grant-Read", "s3:PutObjectAcl"}, {"X-Amz-Grant-Read-Acp", "s3:PutObjectAcl"},
		{"X-Amz-Grant-Write-Acp", "s3:PutObjectAcl"}, {"X-Amz-Grant-Full-Control", "s3:PutObjectAcl"},
		{"X-Amz-Tagging", "s3:PutObjectTagging"},
	} {
		if len(c.r.Header[also.header]) == 0 || also.action == c.op.action || c.quietACL(also.header) {
			continue
		}
		c.implied = true
		err := c.mayDo(also.action, c.bucket, c.key)
		if c.implied = false; err != nil {
			return err
		}
	}
	return nil
}

// quietACL: the canned ACLs that say what holds anyway ask for nothing more.
func (c *call) quietACL(header string) bool {
	if header != "X-Amz-Acl" {
		return false
	}
	acl := c.header(header)
	return acl == "private" || acl == fullControlACL
}

// mayDo asks whether the identity may do an action on a bucket ("" for none) or key ("" for the bucket itself). A bucket that
// is not there is told as such, as S3 does: names of buckets are no secret.
func (c *call) mayDo(action, bucket, key string) error {
	return c.mayDoVersion(action, bucket, key, c.versionAsked(bucket, key))
}

// versionAsked is the version that the request names if it is about this very object.
func (c *call) versionAsked(bucket, key string) string {
	if bucket == c.bucket && key == c.key {
		return c.query.get("versionId")
	}
	return ""
}

func (c *call) mayDoVersion(action, bucket, key, version string) error {
	q := &c.asked
	*q = question{c: c, version: version}
	q.r = iam.Request{Action: action, Bucket: bucket, Key: key, Values: q}
	if bucket != "" && action != "s3:CreateBucket" {
		a, err := c.srv.access(c.r.Context(), bucket)
		if err != nil {
			return err
		}
		if err := q.consider(a); err != nil {
			return err
		}
	}
	err := c.srv.cfg.Identities.Authorize(&c.who, &q.r)
	if q.err != nil { // a condition could not be answered: neither yes nor no
		return q.err
	}
	if err != nil && q.absent && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead) {
		return errNoSuchKey.with("", field{"Key", key})
	}
	return err
}

// stillMay asks again if the verdict rested on another version than the one that is about to be read: it was replaced since.
func (c *call) stillMay(v *cairn.Version) error {
	q := &c.asked
	if !q.looked || q.row != nil && q.row.ID == v.ID {
		return nil
	}
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	q.row, q.absent, q.r.Granted, q.r.OtherOwner = v, false, false, false
	if err := q.consider(a); err != nil {
		return err
	}
	return c.srv.cfg.Identities.Authorize(&c.who, &q.r)
}

// question is one request for a verdict, with the values of its condition keys (values.go).
type question struct {
	c       *call
	r       iam.Request
	version string
	// row is the version that the question is about, once it was looked up; nil if there is none.
	row    *cairn.Version
	looked bool
	absent bool // there is nothing, and who asks may know it by the bucket's list
	err    error
}

// consider adds what a bucket's configuration says.
func (q *question) consider(a *access) error {
	q.r.Owner, q.r.Policy = a.row.Owner, a.policy
	who := &q.c.who
	if who.Root {
		return nil
	}
	if a.block.RestrictPublicBuckets && a.policy.Public() && who.Account != a.row.Owner {
		q.r.DenialsOnly = true // a public policy lets in the owner's account only
	}
	if !a.aclsEnabled() {
		return nil
	}
	need := permissions[q.r.Action]
	if q.c.implied { // a list that lets write lets say how
		need = permissions["s3:PutObject"]
	}
	if need.onBucket != "" {
		// For the owner itself its own policies decide: a list gives nothing to the account that it belongs to.
		acl := a.publicOrNot(a.acl)
		q.r.Granted = who.Account != a.row.Owner && acl.Allows(who, need.onBucket)
		return nil
	}
	if need.onObject == "" || q.r.Key == "" {
		return nil
	}
	v, err := q.object()
	if err != nil {
		return err
	}
	if v == nil { // there is no list to ask; who may list the bucket may learn that there is nothing
		acl := a.publicOrNot(a.acl)
		q.absent = who.Account != a.row.Owner && acl.Allows(who, iam.PermRead)
		return nil
	}
	acl, err := objectACL(v)
	if err != nil {
		return err
	}
	acl = a.publicOrNot(acl)
	q.r.OtherOwner = acl.Owner != a.row.Owner
	q.r.Granted = (q.r.OtherOwner || who.Account != acl.Owner) && acl.Allows(who, need.onObject)
	return nil
}

// publicOrNot takes public grants out of a list where the bucket ignores them.
func (a *access) publicOrNot(acl iam.ACL) iam.ACL {
	if a.block.IgnorePublicAcls {
		return acl.WithoutPublic()
	}
	return acl
}

// permissions says which permission of an access control list gives which action, on the bucket's list or the object's.
// Source: "Mapping of ACL permissions and access policy permissions" in the Amazon S3 User Guide.
var permissions = map[string]struct{ onBucket, onObject iam.Permission }{
	"s3:ListBucket":                 {onBucket: iam.PermRead},
	"s3:ListBucketVersions":         {onBucket: iam.PermRead},
	"s3:ListBucketMultipartUploads": {onBucket: iam.PermRead},
	"s3:PutObject":                  {onBucket: iam.PermWrite},
	"s3:DeleteObject":               {onBucket: iam.PermWrite},
	"s3:DeleteObjectVersion":        {onBucket: iam.PermWrite},
	"s3:AbortMultipartUpload":       {onBucket: iam.PermWrite},
	"s3:ListMultipartUploadParts":   {onBucket: iam.PermWrite},
	"s3:GetBucketAcl":               {onBucket: iam.PermReadACP},
	"s3:PutBucketAcl":               {onBucket: iam.PermWriteACP},
	"s3:GetObject":                  {onObject: iam.PermRead},
	"s3:GetObjectVersion":           {onObject: iam.PermRead},
	"s3:GetObjectAttributes":        {onObject: iam.PermRead},
	"s3:GetObjectVersionAttributes": {onObject: iam.PermRead},
	"s3:GetObjectAcl":               {onObject: iam.PermReadACP},
	"s3:GetObjectVersionAcl":        {onObject: iam.PermReadACP},
	"s3:PutObjectAcl":               {onObject: iam.PermWriteACP},
	"s3:PutObjectVersionAcl":        {onObject: iam.PermWriteACP},
}

// objectACL is a version's list.
func objectACL(v *cairn.Version) (iam.ACL, error) {
	if v.ACL == "" {
		return iam.PrivateACL(v.Owner), nil
	}
	var acl iam.ACL
	if err := json.Unmarshal([]byte(v.ACL), &acl); err != nil {
		return acl, &cairn.Error{Op: "s3api.object acl", Subject: v.Bucket + "/" + v.Key, Err: fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)}
	}
	return acl, nil
}

// object looks up the version that the question is about, once; nil if there is none.
func (q *question) object() (*cairn.Version, error) {
	if q.looked {
		return q.row, q.err
	}
	q.looked = true
	ref, err := versionRef(q.r.Bucket, q.r.Key, q.version, q.version != "")
	if err != nil {
		return nil, nil // the operation itself refuses a version that cannot be
	}
	v, err := q.c.srv.cfg.Objects.Head(q.c.r.Context(), meta.VersionRef{Bucket: ref.Bucket, Key: ref.Key, ID: ref.ID, Null: ref.Null})
	switch {
	case errors.Is(err, cairn.ErrNotFound):
		return nil, nil
	case err != nil:
		q.err = err
		return nil, err
	}
	q.row = &v
	return q.row, nil
}

// checkOwner refuses a bucket of another owner than the client expects.
func (c *call) checkOwner(expected, bucket string) error {
	if expected == "" || bucket == "" || c.op.name == "CreateBucket" {
		return nil
	}
	a, err := c.srv.access(c.r.Context(), bucket)
	if err != nil {
		return err
	}
	if !c.srv.cfg.Identities.Owns(expected, a.row.Owner) {
		return errAccessDenied
	}
	return nil
}

// hideAbsence turns "no such key" into "access denied" for those who may not list the bucket: who may not know what is
// there is not told what is not.
func (c *call) hideAbsence(err error) error {
	if c.who.Root || c.key == "" || c.bucket == "" || c.r.Method != http.MethodGet && c.r.Method != http.MethodHead ||
		cairn.Kind(err) != cairn.ErrNotFound || !strings.HasPrefix(c.op.action, "s3:GetObject") {
		return err
	}
	if _, bucketErr := c.srv.access(c.r.Context(), c.bucket); bucketErr != nil {
		return err
	}
	c.absent = c.key // what a listing would have to be asked for to show that it is not there
	denied := c.mayDo("s3:ListBucket", c.bucket, "")
	if c.absent = ""; denied != nil {
		return errAccessDenied
	}
	return err
}
