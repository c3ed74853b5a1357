package s3api

import (
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"cairn"
	"cairn/meta"
	"cairn/object"
)

func (c *call) createUpload() error {
	what, err := c.attributes()
	if err != nil {
		return err
	}
	u := cairn.Upload{Bucket: c.bucket, Key: c.key, Owner: c.owner, Headers: what.Headers, Tags: what.Tags, Class: what.Class, ACL: what.ACL,
		Lock: what.Lock}
	if u.ChecksumAlgo, u.ChecksumWhole, err = c.uploadChecksum(); err != nil {
		return err
	}
	encrypt, err := c.encryptionWish()
	if err != nil {
		return err
	}
	if u, err = c.srv.cfg.Objects.CreateSealedUpload(c.r.Context(), u, encrypt); err != nil {
		return err
	}
	c.showEncryption(&u.Encryption)
	if u.ChecksumAlgo != "" {
		c.set("X-Amz-Checksum-Algorithm", string(u.ChecksumAlgo))
		c.set("X-Amz-Checksum-Type", uploadChecksumType(&u))
	}
	c.setAbort(&u)
	return c.render(func(b []byte) []byte {
		b = append(b, `<InitiateMultipartUploadResult xmlns="`+xmlNamespace+`">`...)
		b = appendElement(b, "Bucket", c.bucket)
		b = appendElement(b, "Key", c.key)
		b = appendElement(b, "UploadId", u.ID)
		return append(b, "</InitiateMultipartUploadResult>"...)
	})
}

// uploadChecksum reads x-amz-checksum-algorithm and -type. Without a type, CRC64NVME means FULL_OBJECT, the rest COMPOSITE.
func (c *call) uploadChecksum() (algo cairn.ChecksumAlgo, whole bool, err error) {
	name, kind := c.header("X-Amz-Checksum-Algorithm"), c.header("X-Amz-Checksum-Type")
	if name == "" {
		if kind != "" {
			return "", false, errInvalidRequest.with("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return "", false, nil
	}
	if algo, err = parseAlgo(name); err != nil {
		return "", false, err
	}
	composite := algo != cairn.CRC64NVME
	full := algo != cairn.SHA1 && algo != cairn.SHA256
	switch {
	case kind == "":
		return algo, algo == cairn.CRC64NVME, nil
	case kind == "FULL_OBJECT" && full, kind == "COMPOSITE" && composite:
		return algo, kind == "FULL_OBJECT", nil
	case kind == "FULL_OBJECT" || kind == "COMPOSITE":
		return "", false, errInvalidRequest.with("The " + kind + " checksum type cannot be used with the " +
			strings.ToLower(string(algo)) + " checksum algorithm.")
	}
	return "", false, errInvalidRequest.with("Value for x-amz-checksum-type header is invalid.")
}

func uploadChecksumType(u *cairn.Upload) string {
	if u.ChecksumWhole {
		return "FULL_OBJECT"
	}
	return "COMPOSITE"
}

// uploadID returns the upload that the request names.
func (c *call) uploadID() (string, error) {
	id := c.query.get("uploadId")
	if id == "" || len(id) > maxUploadID {
		return "", errNoSuchUpload.with("", field{"UploadId", id[:min(len(id), maxUploadID)]})
	}
	return id, nil
}

const maxUploadID = 256

func (c *call) uploadPart() error {
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	number, err := parsePartNumber(c.query.get("partNumber"))
	if err != nil {
		return err
	}
	if err := c.refuseUnserved(); err != nil {
		return err
	}
	body, size, want, err := c.openBody()
	if err != nil {
		return err
	}
	if err := c.noEncryptionHeaders(); err != nil {
		return err
	}
	customerKey, err := c.customerKey(customerPrefix)
	if err != nil {
		return err
	}
	part, err := c.srv.cfg.Objects.PutPart(c.r.Context(), object.PutPart{Bucket: c.bucket, Key: c.key, Upload: id, Number: number,
		Body: body, Size: size, Want: want, CustomerKey: customerKey})
	if err != nil {
		return partKeyError(err)
	}
	c.showEncryption(&part.Encryption)
	h := c.w.Header()
	h["Etag"] = []string{`"` + part.ETag + `"`}
	setChecksums(h, part.Checksums, false)
	return c.noContent(http.StatusOK)
}

func (c *call) uploadPartCopy() error {
	if err := c.noBody(); err != nil {
		return err
	}
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	number, err := parsePartNumber(c.query.get("partNumber"))
	if err != nil {
		return err
	}
	from, err := c.source()
	if err != nil {
		return err
	}
	var source cairn.Version
	r := object.CopyPart{From: from, SourceIf: c.sourceConditions(&source), Len: -1, Bucket: c.bucket, Key: c.key, Upload: id, Number: number}
	if r.CustomerKey, err = c.customerKey(customerPrefix); err != nil {
		return err
	}
	if r.SourceKey, err = c.customerKey(sourceKeyPrefix); err != nil {
		return err
	}
	if s := c.header("X-Amz-Copy-Source-Range"); s != "" {
		if r.Off, r.Len, err = copyRange(s); err != nil {
			return err
		}
	}
	part, err := c.srv.cfg.Objects.CopyPart(c.r.Context(), r)
	if errors.Is(err, object.ErrRange) {
		return errInvalidArgument.with("Range specified is not valid for source object",
			field{"ArgumentName", "x-amz-copy-source-range"}, field{"ArgumentValue", c.header("X-Amz-Copy-Source-Range")})
	}
	if err != nil {
		return partKeyError(c.sourceError(err, from))
	}
	c.setSourceVersion(&source)
	c.showEncryption(&part.Encryption)
	return c.render(func(b []byte) []byte {
		b = append(b, `<CopyPartResult xmlns="`+xmlNamespace+`">`...)
		b = appendTime(b, "LastModified", part.Modified)
		b = appendETag(b, part.ETag)
		b = appendChecksums(b, part.Checksums, false)
		return append(b, "</CopyPartResult>"...)
	})
}

// copyRange reads x-amz-copy-source-range, of which "bytes=first-last" is the only form.
func copyRange(s string) (off, length int64, err error) {
	bad := errInvalidArgument.with("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last "+
		"are the zero-based offsets of the first and last bytes to copy",
		field{"ArgumentName", "x-amz-copy-source-range"}, field{"ArgumentValue", s})
	spec, ok := strings.CutPrefix(s, "bytes=")
	first, last, isRange := strings.Cut(spec, "-")
	from, err1 := parseOffset(first)
	to, err2 := parseOffset(last)
	if !ok || !isRange || err1 != nil || err2 != nil || to < from || to == 1<<63-1 {
		return 0, 0, bad
	}
	return from, to - from + 1, nil
}

type completeDoc struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber        int
		ETag              string
		ChecksumCRC32     string
		ChecksumCRC32C    string
		ChecksumCRC64NVME string
		ChecksumSHA1      string
		ChecksumSHA256    string
	} `xml:"Part"`
}

func (c *call) completeUpload() error {
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	doc, release, err := c.readDocument(maxXMLBody)
	if err != nil {
		return err
	}
	defer release()
	r := object.Complete{Bucket: c.bucket, Key: c.key, Upload: id, Size: -1, If: c.conditions()}
	if r.Parts, err = parseParts(doc); err != nil {
		return err
	}
	if r.Want, err = c.wholeChecksum(); err != nil {
		return err
	}
	if err := c.checkUploadType(id); err != nil {
		return err
	}
	if s := c.header("X-Amz-Mp-Object-Size"); s != "" {
		if r.Size, err = parseOffset(s); err != nil {
			return errInvalidRequest.with("Value for x-amz-mp-object-size header is invalid.")
		}
	}
	v, err := c.srv.cfg.Objects.Complete(c.r.Context(), r)
	if err != nil {
		return err
	}
	c.setVersion(&v)
	c.setExpiry(&v)
	if v.Encryption.Scheme != cairn.SSEC {
		c.showEncryption(&v.Encryption)
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<CompleteMultipartUploadResult xmlns="`+xmlNamespace+`">`...)
		b = appendElement(b, "Location", c.location())
		b = appendElement(b, "Bucket", c.bucket)
		b = appendElement(b, "Key", c.key)
		b = appendETag(b, v.ETag)
		b = appendChecksums(b, v.Checksums, true)
		return append(b, "</CompleteMultipartUploadResult>"...)
	})
}

// checkUploadType refuses a completion that names another checksum type than the upload was created with.
func (c *call) checkUploadType(id string) error {
	kind := c.header("X-Amz-Checksum-Type")
	if kind == "" {
		return nil
	}
	u, err := c.srv.cfg.Objects.Upload(c.r.Context(), c.bucket, c.key, id)
	if errors.Is(err, object.ErrNoSuchUpload) {
		return nil // completed before, perhaps: the completion itself decides
	}
	if err == nil && u.ChecksumAlgo != "" && uploadChecksumType(&u) != kind {
		err = errInvalidRequest.with("The upload was created using the " + uploadChecksumType(&u) + " checksum mode. " +
			"The complete request must use the same checksum mode.")
	}
	return err
}

func (c *call) location() string {
	scheme := "http://"
	if c.r.TLS != nil {
		scheme = "https://"
	}
	return scheme + c.r.Host + c.raw
}

func parseParts(doc []byte) ([]meta.CompletePart, error) {
	var d completeDoc
	if err := decodeXML(doc, "CompleteMultipartUpload", &d); err != nil {
		return nil, err
	}
	if len(d.Parts) == 0 || len(d.Parts) > object.MaxParts {
		return nil, errMalformedXML
	}
	parts := make([]meta.CompletePart, len(d.Parts))
	for i := range d.Parts {
		p := &d.Parts[i]
		parts[i] = meta.CompletePart{Number: p.PartNumber, ETag: bareETag(p.ETag)}
		for _, sum := range []struct {
			algo  cairn.ChecksumAlgo
			value string
		}{
			{cairn.CRC32, p.ChecksumCRC32}, {cairn.CRC32C, p.ChecksumCRC32C}, {cairn.CRC64NVME, p.ChecksumCRC64NVME},
			{cairn.SHA1, p.ChecksumSHA1}, {cairn.SHA256, p.ChecksumSHA256},
		} {
			if sum.value == "" {
				continue
			}
			parsed, err := parseChecksum(sum.algo, sum.value)
			if err != nil {
				return nil, errInvalidPart
			}
			parts[i].Checksums = append(parts[i].Checksums, parsed)
		}
	}
	return parts, nil
}

// wholeChecksum reads the object's checksum, which may carry the number of parts behind it.
func (c *call) wholeChecksum() (sum cairn.Checksum, err error) {
	for i := range checksumAlgos {
		row := &checksumAlgos[i]
		value := c.header(row.header)
		if value == "" {
			continue
		}
		if sum.Algo != "" {
			return sum, errInvalidRequest.with("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		value, count, composite := strings.Cut(value, "-")
		if sum, err = parseChecksum(row.algo, value); err != nil {
			return sum, err
		}
		if composite {
			if sum.Parts, err = strconv.Atoi(count); err != nil || sum.Parts < 1 || sum.Parts > object.MaxParts {
				return sum, errInvalidRequest.with("Value for " + row.lower + " header is invalid.")
			}
		}
	}
	return sum, nil
}

func (c *call) abortUpload() error {
	if err := c.noBody(); err != nil {
		return err
	}
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	if err := c.srv.cfg.Objects.Abort(c.r.Context(), c.bucket, c.key, id); err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}

func (c *call) listParts() error {
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	asked, err := c.pageSize("max-parts", maxPage, 0)
	if err != nil {
		return err
	}
	after, err := c.pageSize("part-number-marker", 0, 0)
	if err != nil {
		return err
	}
	u, err := c.srv.cfg.Objects.Upload(c.r.Context(), c.bucket, c.key, id)
	if err != nil {
		return err
	}
	limit := min(asked, maxPage)
	parts, more, err := c.srv.cfg.Objects.Parts(c.r.Context(), c.bucket, c.key, id, after, limit)
	if err != nil {
		return err
	}
	c.setAbort(&u)
	return c.render(func(b []byte) []byte { return appendParts(b, &u, parts, after, limit, more, c.account) })
}

func appendParts(b []byte, u *cairn.Upload, parts []cairn.Part, after, limit int, more bool, who accounts) []byte {
	b = append(b, `<ListPartsResult xmlns="`+xmlNamespace+`">`...)
	b = appendElement(b, "Bucket", u.Bucket)
	b = appendElement(b, "Key", u.Key)
	b = appendElement(b, "UploadId", u.ID)
	b = appendOwner(b, "Initiator", who(u.Owner))
	b = appendOwner(b, "Owner", who(u.Owner))
	b = appendClass(b, u.Class)
	b = appendInt(b, "PartNumberMarker", int64(after))
	next := after
	if len(parts) > 0 {
		next = parts[len(parts)-1].Number
	}
	b = appendInt(b, "NextPartNumberMarker", int64(next))
	b = appendInt(b, "MaxParts", int64(limit))
	b = appendBool(b, "IsTruncated", more)
	if u.ChecksumAlgo != "" {
		b = appendElement(b, "ChecksumAlgorithm", string(u.ChecksumAlgo))
		b = appendElement(b, "ChecksumType", uploadChecksumType(u))
	}
	for i := range parts {
		b = append(b, "<Part>"...)
		b = appendInt(b, "PartNumber", int64(parts[i].Number))
		b = appendTime(b, "LastModified", parts[i].Modified)
		b = appendETag(b, parts[i].ETag)
		b = appendInt(b, "Size", parts[i].Size)
		b = appendChecksums(b, parts[i].Checksums, false)
		b = append(b, "</Part>"...)
	}
	return append(b, "</ListPartsResult>"...)
}

func (c *call) listUploads() error {
	r := meta.ListUploads{Bucket: c.bucket, Prefix: c.query.get("prefix"), Delimiter: c.query.get("delimiter"),
		AfterKey: c.query.get("key-marker")}
	if r.AfterKey != "" { // S3 ignores the second marker without the first
		r.AfterUpload = c.query.get("upload-id-marker")
	}
	asked, err := c.pageSize("max-uploads", maxPage, 0)
	if err != nil {
		return err
	}
	r.Max = min(asked, maxPage)
	url, err := c.encodingType()
	if err != nil {
		return err
	}
	page, err := c.srv.cfg.Objects.ListUploads(c.r.Context(), r)
	if err != nil {
		return err
	}
	return c.render(func(b []byte) []byte { return appendUploads(b, &r, &page, url, c.account) })
}

func appendUploads(b []byte, r *meta.ListUploads, page *meta.UploadPage, url bool, who accounts) []byte {
	b = append(b, `<ListMultipartUploadsResult xmlns="`+xmlNamespace+`">`...)
	b = appendElement(b, "Bucket", r.Bucket)
	b = appendName(b, "KeyMarker", r.AfterKey, url)
	b = appendElement(b, "UploadIdMarker", r.AfterUpload)
	if page.More {
		b = appendName(b, "NextKeyMarker", page.NextKey, url)
		b = appendElement(b, "NextUploadIdMarker", page.NextUpload)
	}
	b = appendName(b, "Prefix", r.Prefix, url)
	if r.Delimiter != "" {
		b = appendName(b, "Delimiter", r.Delimiter, url)
	}
	if url {
		b = append(b, "<EncodingType>url</EncodingType>"...)
	}
	b = appendInt(b, "MaxUploads", int64(r.Max))
	b = appendBool(b, "IsTruncated", page.More)
	for i := range page.Uploads {
		u := &page.Uploads[i]
		b = append(b, "<Upload>"...)
		b = appendName(b, "Key", u.Key, url)
		b = appendElement(b, "UploadId", u.ID)
		b = appendOwner(b, "Initiator", who(u.Owner))
		b = appendOwner(b, "Owner", who(u.Owner))
		b = appendClass(b, u.Class)
		b = appendTime(b, "Initiated", u.Created)
		if u.ChecksumAlgo != "" {
			b = appendElement(b, "ChecksumAlgorithm", string(u.ChecksumAlgo))
			b = appendElement(b, "ChecksumType", uploadChecksumType(u))
		}
		b = append(b, "</Upload>"...)
	}
	b = appendPrefixes(b, page.Prefixes, url)
	return append(b, "</ListMultipartUploadsResult>"...)
}
