package s3api

import (
	"bufio"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"cairn"
	"cairn/object"
	"cairn/s3api/sigv4"
)

const (
	// maxFormBytes bounds what a form holds before its file, as in S3.
	maxFormBytes = 20_000
	maxFormField = 200
)

// postForm is a browser's upload: a form whose fields are what headers are elsewhere, and whose file comes last.
type postForm struct {
	fields map[string]string // by name in lower case
	file   *multipart.Part
	name   string // of the file
}

// postObject stores the file of a form. Who may do so, the form's policy and its signature say; without them nobody is known,
// and the bucket decides.
func (c *call) postObject() error {
	form, err := c.readForm()
	if err != nil {
		return err
	}
	policy, err := c.authenticateForm(form)
	if err != nil {
		return err
	}
	if err := c.adopt(form); err != nil {
		return err
	}
	if policy != nil {
		if err := policy.check(form.fields, c.start); err != nil {
			return err
		}
	}
	if err := c.authorize("s3:PutObject"); err != nil {
		return err
	}
	c.nameCaller()
	return c.storeForm(form, policy)
}

// readForm reads the fields up to the file.
func (c *call) readForm() (*postForm, error) {
	kind, params, err := mime.ParseMediaType(c.header("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, errPreconditionFailed.with("At least one of the preconditions you specified did not hold: Bucket POST must be of the " +
			"enclosure-type multipart/form-data")
	}
	if c.r.ContentLength < 0 {
		return nil, errMissingContentLength
	}
	c.in.body, c.in.cfg = c.r.Body, &c.srv.cfg
	c.in.deadline, _ = c.w.(readDeadliner)
	limited := &io.LimitedReader{R: &c.in, N: maxFormBytes + chunkBuffer}
	mr := multipart.NewReader(bufio.NewReaderSize(limited, chunkBuffer), params["boundary"])
	form := &postForm{fields: map[string]string{}}
	total := 0
	for range maxFormField {
		part, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil, errInvalidArgument.with("POST requires exactly one file upload per request.", field{"ArgumentName", "file"}, field{"ArgumentValue", "0"})
		}
		if err != nil {
			return nil, c.formError(err, limited.N)
		}
		name := strings.ToLower(part.FormName())
		if name == "file" {
			form.file, form.name = part, path.Base(strings.ReplaceAll(part.FileName(), `\`, "/"))
			limited.N = 1<<63 - 1 // from here on the body is the object's, bounded like one
			return form, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, maxFormBytes+1))
		if err != nil {
			return nil, c.formError(err, limited.N)
		}
		if total += len(name) + len(value); total > maxFormBytes {
			return nil, errFormTooLong
		}
		if _, twice := form.fields[name]; twice {
			return nil, errInvalidArgument.with("The field "+name+" is given twice.", field{"ArgumentName", name})
		}
		form.fields[name] = string(value)
	}
	return nil, errFormTooLong
}

var errFormTooLong = newError(400, "MaxPostPreDataLengthExceeded", "Your POST request fields preceding the upload file were too large.")

func (c *call) formError(err error, left int64) error {
	switch {
	case c.in.err != nil:
		return c.in.err
	case left <= 0:
		return errFormTooLong
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errIncompleteBody
	}
	return newError(400, "MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.")
}

// authenticateForm finds out who signed the form's policy.
func (c *call) authenticateForm(form *postForm) (*postPolicy, error) {
	f := form.fields
	c.form = true
	c.auth = sigv4.Auth{Payload: sigv4.UnsignedPayload}
	v2 := f["awsaccesskeyid"] != "" || f["signature"] != ""
	v4 := f["x-amz-algorithm"] != "" || f["x-amz-signature"] != "" || f["x-amz-credential"] != ""
	text, ok := f["policy"]
	if !ok {
		if v2 || v4 {
			return nil, missingField("policy")
		}
		return nil, nil
	}
	var secret string
	var err error
	switch {
	case v4:
		for _, name := range []string{"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"} {
			if f[name] == "" {
				return nil, missingField(name)
			}
		}
		if c.auth, err = sigv4.FromForm(func(name string) string { return f[name] }, c.srv.cfg.Region); err != nil {
			return nil, c.explainAuth(err)
		}
		if secret, c.who, err = c.lookup(c.auth.AccessKey, c.auth.Token); err == nil {
			err = c.srv.verifier.VerifyText(&c.auth, secret, text)
		}
	case f["awsaccesskeyid"] == "":
		return nil, missingField("awsaccesskeyid")
	case f["signature"] == "":
		return nil, missingField("signature")
	default:
		c.auth.AccessKey = f["awsaccesskeyid"]
		if secret, c.who, err = c.lookup(c.auth.AccessKey, f["x-amz-security-token"]); err == nil {
			err = sigv4.VerifyTextV2(secret, text, f["signature"])
		}
	}
	if err != nil {
		return nil, c.explainAuth(err)
	}
	policy, err := parsePostPolicy(text)
	return &policy, err
}

func missingField(name string) error {
	return errInvalidArgument.with("Bucket POST must contain a field named '"+name+"'.  If it is specified, please check the order of the fields.",
		field{"ArgumentName", name}, field{"ArgumentValue", ""})
}

// adopt makes of the form's fields what they would be in a PUT: its key and its headers.
func (c *call) adopt(form *postForm) error {
	key := form.fields["key"]
	if key == "" {
		return missingField("key")
	}
	c.key = strings.ReplaceAll(key, "${filename}", form.name)
	form.fields["key"], form.fields["bucket"] = c.key, c.bucket
	t := target{bucket: c.bucket, key: c.key, path: "/" + c.bucket + "/" + c.key}
	if err := t.check(); err != nil {
		return err
	}
	c.path = t.path
	outer := c.r.Header
	c.r.Header = http.Header{}
	for _, name := range []string{"Referer", "User-Agent", "X-Forwarded-For", "Origin"} { // of the request, for policies
		if v := outer[name]; v != nil {
			c.r.Header[name] = v
		}
	}
	for name, value := range form.fields {
		switch header := http.CanonicalHeaderKey(name); {
		case name == "acl":
			c.r.Header["X-Amz-Acl"] = []string{value}
		case name == "tagging":
			if err := c.adoptTags(value); err != nil {
				return err
			}
		case strings.HasPrefix(header, "X-Amz-") && !formOnly(name), header == "Content-Type", header == "Cache-Control", header == "Content-Disposition",
			header == "Content-Encoding", header == "Content-Language", header == "Expires", header == "Content-Md5":
			c.r.Header[header] = []string{value}
		}
	}
	return nil
}

// formOnly knows the fields of a form's own signature.
func formOnly(name string) bool {
	switch name {
	case "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token":
		return true
	}
	return false
}

func (c *call) adoptTags(doc string) error {
	var d taggingDoc
	if err := decodeXML([]byte(doc), "Tagging", &d); err != nil {
		return err
	}
	if d.TagSet == nil {
		return errMalformedXML
	}
	values := url.Values{}
	for _, t := range d.TagSet.Tag {
		values.Add(t.Key, t.Value)
	}
	c.r.Header["X-Amz-Tagging"] = []string{values.Encode()}
	return nil
}

// formBody is the file, which must be as long as the policy says.
type formBody struct {
	file   io.Reader
	policy *postPolicy
	n      int64
}

// Read implements io.Reader. The object is committed only if it ends without an error.
func (b *formBody) Read(p []byte) (int, error) {
	n, err := b.file.Read(p)
	b.n += int64(n)
	if b.policy == nil || !b.policy.ranged {
		return n, err
	}
	switch {
	case b.n > b.policy.max:
		return 0, errEntityTooLarge.with("", field{"ProposedSize", itoa(b.n)}, field{"MaxSizeAllowed", itoa(b.policy.max)})
	case errors.Is(err, io.EOF) && b.n < b.policy.min:
		return 0, errEntityTooSmall.with("", field{"ProposedSize", itoa(b.n)}, field{"MinSizeAllowed", itoa(b.policy.min)})
	}
	return n, err
}

func (c *call) storeForm(form *postForm, policy *postPolicy) error {
	what, err := c.attributes()
	if err != nil {
		return err
	}
	want, err := c.declared()
	if err != nil {
		return err
	}
	encrypt, err := c.encryptionWish()
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Put(c.r.Context(), object.Put{Bucket: c.bucket, Key: c.key, Owner: c.owner,
		Body: failure{&formBody{file: form.file, policy: policy}, &c.in}, Size: -1, What: what, Want: want, Encrypt: encrypt})
	if err != nil {
		return err
	}
	h := c.w.Header()
	h["Etag"] = []string{`"` + v.ETag + `"`}
	setChecksums(h, v.Checksums, true)
	c.setVersion(&v)
	c.showEncryption(&v.Encryption)
	return c.answerForm(form, &v)
}

// answerForm sends the browser where the form says, or answers with the status that it asks for.
func (c *call) answerForm(form *postForm, v *cairn.Version) error {
	location := c.formLocation()
	redirect := form.fields["success_action_redirect"]
	if redirect == "" {
		redirect = form.fields["redirect"]
	}
	if u, err := url.Parse(redirect); redirect != "" && err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += "bucket=" + url.QueryEscape(c.bucket) + "&key=" + url.QueryEscape(c.key) + "&etag=" + url.QueryEscape(`"`+v.ETag+`"`)
		c.set("Location", u.String())
		return c.noContent(http.StatusSeeOther)
	}
	c.set("Location", location)
	switch status, _ := strconv.Atoi(form.fields["success_action_status"]); status {
	case http.StatusOK:
		return c.noContent(http.StatusOK)
	case http.StatusCreated:
		b := append([]byte(nil), xmlHeader+"<PostResponse>"...)
		b = appendElement(b, "Location", location)
		b = appendElement(b, "Bucket", c.bucket)
		b = appendElement(b, "Key", c.key)
		b = appendETag(b, v.ETag)
		b = append(b, "</PostResponse>"...)
		c.w.Header()["Content-Type"] = typeXML
		c.set("Content-Length", strconv.Itoa(len(b)))
		c.WriteHeader(http.StatusCreated)
		_, err := c.Write(b)
		return err
	}
	return c.noContent(http.StatusNoContent)
}

func (c *call) formLocation() string {
	scheme, prefix := "http://", "/"+c.bucket+"/"
	if c.r.TLS != nil {
		scheme = "https://"
	}
	if c.virtual {
		prefix = "/"
	}
	return scheme + c.r.Host + prefix + string(sigv4.AppendEscaped(nil, c.key, true))
}
