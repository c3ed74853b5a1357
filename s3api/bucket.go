package s3api

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"cairn"
	"cairn/iam"
)

// maxSmallDocument bounds the documents that describe a bucket.
const maxSmallDocument = 64 << 10

// defaultPageBuckets is ListBuckets' page when a client pages at all.
const maxPageBuckets = 10_000

// listBuckets lists the caller's buckets, in pages if max-buckets or a token is given.
func (c *call) listBuckets() error {
	all, err := c.srv.cfg.Objects.Buckets(c.r.Context())
	if err != nil {
		return err
	}
	prefix := c.query.get("prefix")
	limit, err := c.pageSize("max-buckets", maxPageBuckets, 1)
	if limit > maxPageBuckets && err == nil {
		return errInvalidArgument.with("Argument max-buckets must be an integer between 1 and 10000",
			field{"ArgumentName", "max-buckets"}, field{"ArgumentValue", c.query.get("max-buckets")})
	}
	if err != nil {
		return err
	}
	after, err := decodeToken(c.query.get("continuation-token"))
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b cairn.Bucket) int { return strings.Compare(a.Name, b.Name) })
	var page []cairn.Bucket
	next := ""
	for _, b := range all {
		if !c.mayList(b) || !strings.HasPrefix(b.Name, prefix) || b.Name <= after {
			continue
		}
		if len(page) == limit {
			next = page[limit-1].Name
			break
		}
		page = append(page, b)
	}
	return c.render(func(b []byte) []byte { return c.appendBuckets(b, page, prefix, next) })
}

// mayList: an account sees its own buckets, the root identity and administrators see all.
func (c *call) mayList(b cairn.Bucket) bool { return c.who.Admin() || b.Owner == c.who.Account }

func (c *call) appendBuckets(b []byte, page []cairn.Bucket, prefix, next string) []byte {
	b = append(b, `<ListAllMyBucketsResult xmlns="`+xmlNamespace+`">`...)
	b = appendOwner(b, "Owner", c.account(c.who.Account))
	b = append(b, "<Buckets>"...)
	for i := range page {
		b = append(b, "<Bucket>"...)
		b = appendElement(b, "Name", page[i].Name)
		b = appendTime(b, "CreationDate", page[i].Created)
		b = appendElement(b, "BucketRegion", c.srv.cfg.Region)
		b = append(b, "</Bucket>"...)
	}
	b = append(b, "</Buckets>"...)
	if prefix != "" {
		b = appendElement(b, "Prefix", prefix)
	}
	if next != "" {
		b = appendElement(b, "ContinuationToken", encodeToken(next))
	}
	return append(b, "</ListAllMyBucketsResult>"...)
}

func appendOwner(b []byte, element string, who iam.Account) []byte {
	b = append(b, '<')
	b = append(b, element...)
	b = append(b, '>')
	b = appendElement(b, "ID", who.ID)
	b = appendElement(b, "DisplayName", who.Name)
	b = append(b, '<', '/')
	b = append(b, element...)
	return append(b, '>')
}

type createBucketDoc struct {
	LocationConstraint string
	Location           *struct{} // of directory buckets
	Bucket             *struct{}
}

func (c *call) createBucket() error {
	if c.key != "" || c.bucket == "" {
		return errInvalidBucketName
	}
	configs, err := c.bucketACL()
	if err != nil {
		return err
	}
	made := cairn.Bucket{Name: c.bucket, Owner: c.who.Account, Configs: configs}
	if strings.EqualFold(c.header("X-Amz-Bucket-Object-Lock-Enabled"), "true") {
		made.Lock.Enabled, made.Version = true, cairn.VersioningEnabled
	}
	if err := c.refuseUnserved(); err != nil {
		return err
	}
	if err := c.checkLocation(); err != nil {
		return err
	}
	_, err = c.srv.cfg.Objects.CreateBucket(c.r.Context(), made)
	c.srv.accesses.forget(c.bucket)
	if errors.Is(err, cairn.ErrExists) {
		return c.bucketExists(err)
	}
	if err != nil {
		return err
	}
	c.set("Location", "/"+c.bucket)
	return c.noContent(http.StatusOK)
}

// bucketExists tells whose the bucket is. Creating one's own again succeeds in us-east-1 for compatibility with S3's past,
// and fails elsewhere, as S3 has it.
func (c *call) bucketExists(cause error) error {
	b, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	switch {
	case err != nil:
		return cause
	case b.Owner != c.who.Account:
		return errBucketExists.with("", field{"BucketName", c.bucket})
	case c.srv.cfg.Region == "us-east-1":
		c.set("Location", "/"+c.bucket)
		return c.noContent(http.StatusOK)
	}
	return errBucketOwned.with("", field{"BucketName", c.bucket})
}

// checkLocation reads the optional document of CreateBucket. In us-east-1 no constraint is given; elsewhere it must be the
// region itself.
func (c *call) checkLocation() error {
	if c.r.ContentLength == 0 {
		return c.noBody()
	}
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil || len(doc) == 0 {
		release()
		return err
	}
	defer release()
	var d createBucketDoc
	if err := decodeXML(doc, "CreateBucketConfiguration", &d); err != nil {
		return err
	}
	switch {
	case d.Location != nil || d.Bucket != nil:
		return errNotImplemented.with("Directory buckets are not available.")
	case d.LocationConstraint == "" && c.srv.cfg.Region != "us-east-1":
		return errIllegalLocation.with("The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.")
	case d.LocationConstraint == "" || d.LocationConstraint == c.srv.cfg.Region:
		return nil
	}
	return errInvalidLocation.with("", field{"LocationConstraint", d.LocationConstraint})
}

func (c *call) headBucket() error {
	if _, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket); err != nil {
		return err
	}
	c.set("X-Amz-Bucket-Region", c.srv.cfg.Region)
	c.set("X-Amz-Access-Point-Alias", "false")
	return c.noContent(http.StatusOK)
}

func (c *call) deleteBucket() error {
	if err := c.noBody(); err != nil {
		return err
	}
	err := c.srv.cfg.Objects.DeleteBucket(c.r.Context(), c.bucket)
	c.srv.accesses.forget(c.bucket)
	if err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}

// getBucketLocation answers an empty constraint for us-east-1, as S3 does.
func (c *call) getBucketLocation() error {
	if _, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket); err != nil {
		return err
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<LocationConstraint xmlns="`+xmlNamespace+`">`...)
		if c.srv.cfg.Region != "us-east-1" {
			b = appendText(b, c.srv.cfg.Region)
		}
		return append(b, "</LocationConstraint>"...)
	})
}

type versioningDoc struct {
	Status    string
	MfaDelete string
}

func (c *call) getBucketVersioning() error {
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<VersioningConfiguration xmlns="`+xmlNamespace+`">`...)
		if row.Version != cairn.VersioningOff {
			b = appendElement(b, "Status", row.Version.String())
		}
		return append(b, "</VersioningConfiguration>"...)
	})
}

func (c *call) putBucketVersioning() error {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	var d versioningDoc
	if err := decodeXML(doc, "VersioningConfiguration", &d); err != nil {
		return err
	}
	if d.MfaDelete == "Enabled" || c.header("X-Amz-Mfa") != "" {
		return errNotImplemented.with("MFA delete is not available.")
	}
	state := cairn.VersioningEnabled
	switch d.Status {
	case "Enabled":
	case "Suspended":
		state = cairn.VersioningSuspended
	default:
		return errMalformedXML
	}
	_, err = c.srv.cfg.Objects.UpdateBucket(c.r.Context(), c.bucket, func(b *cairn.Bucket) error {
		if b.Lock.Enabled && state != cairn.VersioningEnabled {
			return errInvalidBucketState.with("An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")
		}
		b.Version = state
		return nil
	})
	if err != nil {
		return err
	}
	return c.noContent(http.StatusOK)
}
