package s3api

import (
	"encoding/xml"
	"errors"
	"time"

	"cairn"
	"cairn/meta"
)

type deleteDoc struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool     `xml:"Quiet"`
	Objects []struct {
		Key              string     `xml:"Key"`
		VersionID        *string    `xml:"VersionId"`
		ETag             string     `xml:"ETag"`
		Size             *int64     `xml:"Size"`
		LastModifiedTime *httpStamp `xml:"LastModifiedTime"`
	} `xml:"Object"`
}

// httpStamp is a time in any of the forms that SDKs send.
type httpStamp struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *httpStamp) UnmarshalText(b []byte) (err error) {
	t.Time, err = parseTimestamp(string(b))
	return err
}

// outcome of one key of a DeleteObjects request.
type outcome struct {
	key, id string // as the client named them
	ref     meta.VersionRef
	done    meta.Deleted
	err     error
	// conditional: nothing there is an error, since the condition cannot hold.
	conditional bool
}

// deleteObjects deletes up to 1,000 keys; each has its own result.
func (c *call) deleteObjects() error {
	if err := c.needDigest(); err != nil {
		return err
	}
	doc, release, err := c.readDocument(maxXMLBody)
	if err != nil {
		return err
	}
	defer release()
	var d deleteDoc
	if err := decodeXML(doc, "Delete", &d); err != nil {
		return err
	}
	if len(d.Objects) == 0 || len(d.Objects) > maxPage {
		return errMalformedXML
	}
	if c.header("X-Amz-Mfa") != "" {
		return errNotImplemented.with("MFA delete is not available.", field{"Header", "x-amz-mfa"})
	}
	outcomes, requests, index := c.plan(&d)
	if err := c.deleteAll(requests, index, outcomes); err != nil {
		return err
	}
	return c.render(func(b []byte) []byte { return c.appendOutcomes(b, outcomes, d.Quiet) })
}

// plan checks every line of the document. What may be deleted becomes a request; index says whose.
func (c *call) plan(d *deleteDoc) (outcomes []outcome, requests []meta.DeleteVersion, index []int) {
	outcomes = make([]outcome, len(d.Objects))
	requests = make([]meta.DeleteVersion, 0, len(d.Objects))
	index = make([]int, 0, len(d.Objects))
	asked := c.header("X-Amz-Bypass-Governance-Retention") != ""
	for i := range d.Objects {
		o, r := &outcomes[i], meta.DeleteVersion{}
		o.key = d.Objects[i].Key
		if id := d.Objects[i].VersionID; id != nil {
			o.id = *id
		}
		if o.ref, o.err = c.deletable(o.key, o.id); o.err != nil {
			continue
		}
		r.Ref, r.Bypass = o.ref, asked && c.bypass(o.key)
		r.If.IfMatch, r.If.IfSize = etagList(d.Objects[i].ETag), d.Objects[i].Size
		if t := d.Objects[i].LastModifiedTime; t != nil {
			r.If.IfModified = &t.Time
		}
		o.conditional = len(r.If.IfMatch) > 0 || r.If.IfSize != nil || r.If.IfModified != nil
		requests, index = append(requests, r), append(index, i)
	}
	return outcomes, requests, index
}

// deletable checks key, version and permission of one line.
func (c *call) deletable(key, id string) (ref meta.VersionRef, err error) {
	t := target{bucket: c.bucket, key: key, path: key}
	if key == "" {
		return ref, errMalformedXML
	}
	if err := t.check(); err != nil {
		return ref, err
	}
	action := "s3:DeleteObject"
	if id != "" {
		action = "s3:DeleteObjectVersion"
		if ref, err = versionRef(c.bucket, key, id, true); err != nil {
			return ref, errNoSuchVersion
		}
	}
	ref.Bucket, ref.Key = c.bucket, key
	return ref, c.mayDoVersion(action, c.bucket, key, id)
}

// deleteAll runs the requests and files their results. A missing bucket fails the whole.
func (c *call) deleteAll(requests []meta.DeleteVersion, index []int, outcomes []outcome) error {
	if _, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket); err != nil {
		return err
	}
	if len(requests) == 0 {
		return nil
	}
	done, errs := c.srv.cfg.Objects.DeleteMany(c.r.Context(), requests)
	for i, at := range index {
		if i < len(errs) && errs[i] != nil {
			outcomes[at].err = errs[i]
		} else if i < len(done) {
			outcomes[at].done = done[i]
		} else {
			outcomes[at].err = cairn.ErrUnavailable
		}
	}
	return nil
}

func (c *call) appendOutcomes(b []byte, outcomes []outcome, quiet bool) []byte {
	b = append(b, `<DeleteResult xmlns="`+xmlNamespace+`">`...)
	for i := range outcomes {
		o := &outcomes[i]
		if o.err != nil && !o.gone() {
			b = c.appendDeleteError(b, o)
		} else if !quiet {
			b = appendDeleted(b, o)
		}
	}
	return append(b, "</DeleteResult>"...)
}

// gone tells whether a deletion failed only because nothing was there, which S3 counts as done.
func (o *outcome) gone() bool { return !o.conditional && errors.Is(o.err, cairn.ErrNotFound) }

func appendDeleted(b []byte, o *outcome) []byte {
	b = append(b, "<Deleted>"...)
	b = appendElement(b, "Key", o.key)
	if o.id != "" {
		b = appendElement(b, "VersionId", o.id)
	}
	if o.done.DeleteMarker {
		b = append(b, "<DeleteMarker>true</DeleteMarker>"...)
		b = appendElement(b, "DeleteMarkerVersionId", deletedVersionID(o.ref, o.done))
	}
	return append(b, "</Deleted>"...)
}

func (c *call) appendDeleteError(b []byte, o *outcome) []byte {
	api, known := translate(o.err)
	if !known {
		c.srv.cfg.Logger.Error("deletion failed", "bucket", c.bucket, "key", o.key, "err", o.err, "request_id", c.id[0])
	}
	b = append(b, "<Error>"...)
	b = appendElement(b, "Key", o.key)
	if o.id != "" {
		b = appendElement(b, "VersionId", o.id)
	}
	b = appendElement(b, "Code", api.code)
	b = appendElement(b, "Message", api.message)
	return append(b, "</Error>"...)
}
