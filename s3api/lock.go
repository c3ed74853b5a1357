package s3api

import (
	"encoding/xml"
	"errors"
	"net/http"
	"strings"
	"time"

	"cairn"
	"cairn/meta"
)

// Object lock: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html.

var (
	errNoLock             = errInvalidRequest.with("Bucket is missing Object Lock Configuration")
	errNoLockConfig       = newError(http.StatusNotFound, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket")
	errNoObjectLock       = newError(http.StatusNotFound, "NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration")
	errInvalidBucketState = newError(http.StatusConflict, "InvalidBucketState", "The request is not valid with the current state of the bucket.")
	errRetentionPeriod    = newError(http.StatusBadRequest, "InvalidRetentionPeriod", "Default retention period must be a positive integer value.")
	errObjectLocked       = errAccessDenied.with("Access Denied because object protected by object lock.")
)

const (
	maxRetentionDays  = 36500 // of a bucket's default
	maxRetentionYears = 100
)

const lockPrefix = "X-Amz-Object-Lock-"

// lockOperations is the part of the table that is about object lock.
func lockOperations() []operation {
	return []operation{
		{name: "GetObjectLockConfiguration", action: "s3:GetBucketObjectLockConfiguration", level: bucket, method: "GET", query: "object-lock", handle: (*call).getLockConfiguration},
		{name: "PutObjectLockConfiguration", action: "s3:PutBucketObjectLockConfiguration", level: bucket, method: "PUT", query: "object-lock", handle: (*call).putLockConfiguration},
		{name: "GetObjectRetention", action: "s3:GetObjectRetention", level: object_, method: "GET", query: "retention", handle: (*call).getRetention},
		{name: "PutObjectRetention", action: "s3:PutObjectRetention", level: object_, method: "PUT", query: "retention", handle: (*call).putRetention},
		{name: "GetObjectLegalHold", action: "s3:GetObjectLegalHold", level: object_, method: "GET", query: "legal-hold", handle: (*call).getLegalHold},
		{name: "PutObjectLegalHold", action: "s3:PutObjectLegalHold", level: object_, method: "PUT", query: "legal-hold", handle: (*call).putLegalHold},
	}
}

type lockDoc struct {
	XMLName           xml.Name `xml:"ObjectLockConfiguration"`
	ObjectLockEnabled string
	Rule              *struct {
		DefaultRetention *struct {
			Mode  string
			Days  *int
			Years *int
		}
	}
}

func (c *call) getLockConfiguration() error {
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	if !row.Lock.Enabled {
		return errNoLockConfig.with("", field{"BucketName", c.bucket})
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<ObjectLockConfiguration xmlns="`+xmlNamespace+`"><ObjectLockEnabled>Enabled</ObjectLockEnabled>`...)
		if row.Lock.Mode != "" {
			b = append(b, "<Rule><DefaultRetention>"...)
			b = appendElement(b, "Mode", string(row.Lock.Mode))
			if row.Lock.Days > 0 {
				b = appendInt(b, "Days", int64(row.Lock.Days))
			} else {
				b = appendInt(b, "Years", int64(row.Lock.Years))
			}
			b = append(b, "</DefaultRetention></Rule>"...)
		}
		return append(b, "</ObjectLockConfiguration>"...)
	})
}

// putLockConfiguration sets the default retention, and enables object lock in a bucket whose versioning is enabled.
func (c *call) putLockConfiguration() error {
	var d lockDoc
	if err := c.document("ObjectLockConfiguration", &d); err != nil {
		return err
	}
	lock, err := d.parse()
	if err != nil {
		return err
	}
	_, err = c.srv.cfg.Objects.UpdateBucket(c.r.Context(), c.bucket, func(b *cairn.Bucket) error {
		if !b.Lock.Enabled && b.Version != cairn.VersioningEnabled {
			return errInvalidBucketState.with("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
		}
		b.Lock = lock
		return nil
	})
	if err != nil {
		return err
	}
	return c.noContent(http.StatusOK)
}

func (d *lockDoc) parse() (lock cairn.BucketLock, err error) {
	if d.ObjectLockEnabled != "Enabled" {
		return lock, errMalformedXML
	}
	lock.Enabled = true
	if d.Rule == nil {
		return lock, nil
	}
	r := d.Rule.DefaultRetention
	if r == nil || (r.Days == nil) == (r.Years == nil) {
		return lock, errMalformedXML
	}
	if lock.Mode, err = lockMode(r.Mode); err != nil {
		return lock, err
	}
	given, limit, into := r.Days, maxRetentionDays, &lock.Days
	if r.Years != nil {
		given, limit, into = r.Years, maxRetentionYears, &lock.Years
	}
	switch {
	case *given < 1:
		return lock, errRetentionPeriod
	case *given > limit:
		return lock, errRetentionPeriod.with("Default retention period is too large.")
	}
	*into = *given
	return lock, nil
}

func lockMode(s string) (cairn.LockMode, error) {
	switch m := cairn.LockMode(s); m {
	case cairn.LockGovernance, cairn.LockCompliance:
		return m, nil
	}
	return "", errMalformedXML
}

// document reads a small request document with the named root. S3 demands a digest of those that set locks.
func (c *call) document(root string, into any) error {
	if err := c.needDigest(); err != nil {
		return err
	}
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	return decodeXML(doc, root, into)
}

// lock reads the lock that a new version is to have. The zero value leaves it to the bucket's default.
func (c *call) lock() (l cairn.Lock, err error) {
	mode, until, hold := c.header(lockPrefix+"Mode"), c.header(lockPrefix+"Retain-Until-Date"), c.header(lockPrefix+"Legal-Hold")
	if mode == "" && until == "" && hold == "" {
		return l, nil
	}
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return l, err
	}
	if !row.Lock.Enabled {
		return l, errNoLock
	}
	if hold != "" {
		if l.Hold = cairn.Hold(hold); l.Hold != cairn.HoldOn && l.Hold != cairn.HoldOff {
			return l, errInvalidArgument.with("Legal Hold must be either of 'ON' or 'OFF'",
				field{"ArgumentName", "x-amz-object-lock-legal-hold"}, field{"ArgumentValue", hold})
		}
		if err := c.authorizeAlso("s3:PutObjectLegalHold"); err != nil {
			return l, err
		}
	}
	if mode == "" && until == "" {
		return l, nil
	}
	if l.Mode, l.Until, err = retentionHeaders(mode, until, time.Now()); err != nil {
		return l, err
	}
	return l, c.authorizeAlso("s3:PutObjectRetention")
}

func retentionHeaders(mode, until string, now time.Time) (m cairn.LockMode, t time.Time, err error) {
	if mode == "" || until == "" {
		return m, t, errInvalidArgument.with("x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
	}
	if m, err = lockMode(mode); err != nil {
		return m, t, errInvalidArgument.with("Unknown wormMode directive.", field{"ArgumentName", "x-amz-object-lock-mode"},
			field{"ArgumentValue", mode})
	}
	if t, err = parseTimestamp(until); err != nil {
		return m, t, errInvalidArgument.with("The retain until date must be provided in ISO 8601 format",
			field{"ArgumentName", "x-amz-object-lock-retain-until-date"}, field{"ArgumentValue", until})
	}
	return m, t.UTC(), futureDate(t, now)
}

func futureDate(t, now time.Time) error {
	if t.After(now) {
		return nil
	}
	return errInvalidArgument.with("The retain until date must be in the future!",
		field{"ArgumentName", "x-amz-object-lock-retain-until-date"}, field{"ArgumentValue", t.UTC().Format(timeFormat)})
}

// needLockDigest: S3 demands a digest of a body that is to be locked.
func (c *call) needLockDigest(l cairn.Lock) error {
	if l == (cairn.Lock{}) || c.needDigest() == nil {
		return nil
	}
	return errInvalidRequest.with("Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters")
}

// bypass tells whether a retention in GOVERNANCE mode may be lifted: it is asked for, and the identity may.
func (c *call) bypass(key string) bool {
	return strings.EqualFold(c.header("X-Amz-Bypass-Governance-Retention"), "true") &&
		c.mayDo("s3:BypassGovernanceRetention", c.bucket, key) == nil
}

// authorizeAlso asks for a further action on the request's key.
func (c *call) authorizeAlso(action string) error {
	return c.mayDo(action, c.bucket, c.key)
}

type retentionDoc struct {
	XMLName         xml.Name `xml:"Retention"`
	Mode            string
	RetainUntilDate string
}

func (c *call) putRetention() error {
	var d retentionDoc
	if err := c.document("Retention", &d); err != nil {
		return err
	}
	next, err := d.parse(time.Now())
	if err != nil {
		return err
	}
	bypass := c.bypass(c.key)
	return c.changeLock(func(now *cairn.Lock) error {
		if now.Refuses(next, time.Now(), bypass) {
			return errObjectLocked
		}
		now.Mode, now.Until = next.Mode, next.Until
		return nil
	})
}

// parse reads the document; an empty one takes the retention off.
func (d *retentionDoc) parse(now time.Time) (l cairn.Lock, err error) {
	if d.Mode == "" && d.RetainUntilDate == "" {
		return l, nil
	}
	if l.Mode, err = lockMode(d.Mode); err != nil {
		return l, err
	}
	t, err := parseTimestamp(d.RetainUntilDate)
	if err != nil {
		return l, errMalformedXML
	}
	l.Until = t.UTC()
	return l, futureDate(t, now)
}

func (c *call) getRetention() error {
	v, err := c.lockedVersion()
	if err != nil {
		return err
	}
	if v.Lock.Mode == "" {
		return errNoObjectLock.with("", field{"Key", c.key})
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<Retention xmlns="`+xmlNamespace+`">`...)
		b = appendElement(b, "Mode", string(v.Lock.Mode))
		b = appendTime(b, "RetainUntilDate", v.Lock.Until)
		return append(b, "</Retention>"...)
	})
}

type legalHoldDoc struct {
	XMLName xml.Name `xml:"LegalHold"`
	Status  cairn.Hold
}

func (c *call) putLegalHold() error {
	var d legalHoldDoc
	if err := c.document("LegalHold", &d); err != nil {
		return err
	}
	if d.Status != cairn.HoldOn && d.Status != cairn.HoldOff {
		return errMalformedXML
	}
	return c.changeLock(func(now *cairn.Lock) error {
		now.Hold = d.Status
		return nil
	})
}

func (c *call) getLegalHold() error {
	v, err := c.lockedVersion()
	if err != nil {
		return err
	}
	if v.Lock.Hold == "" {
		return errNoObjectLock.with("", field{"Key", c.key})
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<LegalHold xmlns="`+xmlNamespace+`">`...)
		b = appendElement(b, "Status", string(v.Lock.Hold))
		return append(b, "</LegalHold>"...)
	})
}

// changeLock changes the lock of the version that the request names, in one commit.
func (c *call) changeLock(change func(*cairn.Lock) error) error {
	ref, err := c.ref()
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Update(c.r.Context(), meta.UpdateVersion{Ref: ref, Change: func(b cairn.Bucket, v *cairn.Version) error {
		switch {
		case !b.Lock.Enabled:
			return errNoLock
		case v.DeleteMarker:
			return c.markerNotAllowed(v)
		}
		return change(&v.Lock)
	}})
	if err != nil {
		return c.lockFirst(err)
	}
	c.setVersion(&v)
	return c.noContent(http.StatusOK)
}

// lockedVersion returns the version that the request names, in a bucket with object lock.
func (c *call) lockedVersion() (v cairn.Version, err error) {
	ref, err := c.ref()
	if err != nil {
		return v, err
	}
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return v, err
	}
	if !row.Lock.Enabled {
		return v, errNoLock
	}
	if v, err = c.srv.cfg.Objects.Head(c.r.Context(), ref); err == nil && v.DeleteMarker {
		err = c.markerNotAllowed(&v)
	}
	return v, err
}

// lockFirst: in a bucket without object lock that is what a request about locks is told, whether the key exists or not.
func (c *call) lockFirst(err error) error {
	var gone *meta.BucketError
	if cairn.Kind(err) != cairn.ErrNotFound || errors.As(err, &gone) {
		return err
	}
	if row, e := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket); e == nil && !row.Lock.Enabled {
		return errNoLock
	}
	return err
}

// setLock adds the headers of a version's lock for those who may see them.
func (c *call) setLock(v *cairn.Version) {
	if v.Lock.Mode != "" && c.authorizeAlso("s3:GetObjectRetention") == nil {
		c.set(lockPrefix+"Mode", string(v.Lock.Mode))
		c.set(lockPrefix+"Retain-Until-Date", v.Lock.Until.UTC().Format(timeFormat))
	}
	if v.Lock.Hold != "" && c.authorizeAlso("s3:GetObjectLegalHold") == nil {
		c.set(lockPrefix+"Legal-Hold", string(v.Lock.Hold))
	}
}
