package s3api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"

	"cairn"
	"cairn/meta"
	"cairn/object"
	"cairn/s3api/sigv4"
)

// apiError is an error of S3's API: what the client sees. The values below are never changed; with returns a copy.
type apiError struct {
	code    string
	status  int
	message string
	extra   []field // further elements of the XML body
	header  []field // further response headers
}

type field struct{ name, value string }

// Error gives code and message.
func (e *apiError) Error() string { return e.code + ": " + e.message }

// with returns the same error with another message ("" keeps it) and further elements.
func (e *apiError) with(message string, extra ...field) *apiError {
	c := *e
	if message != "" {
		c.message = message
	}
	c.extra = append(c.extra[:len(c.extra):len(c.extra)], extra...)
	return &c
}

// withHeader returns the same error with a further response header.
func (e *apiError) withHeader(name, value string) *apiError {
	c := *e
	c.header = append(c.header[:len(c.header):len(c.header)], field{name, value})
	return &c
}

func newError(status int, code, message string) *apiError {
	return &apiError{code: code, status: status, message: message}
}

// The errors of S3's API that Cairn answers with. Codes, statuses and messages are those of the "Error responses" page of
// the Amazon S3 API Reference, or, where that is silent, what the service answers.
var (
	errAccessDenied           = newError(403, "AccessDenied", "Access Denied")
	errACLNotSupported        = newError(400, "AccessControlListNotSupported", "The bucket does not allow ACLs")
	errAuthHeaderMalformed    = newError(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
	errAuthQueryParams        = newError(400, "AuthorizationQueryParametersError", "The presigned URL's parameters are malformed.")
	errBadDigest              = newError(400, "BadDigest", "The Content-MD5 or checksum value that you specified did not match what the server received.")
	errBucketExists           = newError(409, "BucketAlreadyExists", "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Select a different name and try again.")
	errBucketOwned            = newError(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.")
	errBucketNotEmpty         = newError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty.")
	errEntityTooLarge         = newError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
	errEntityTooSmall         = newError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
	errIllegalLocation        = newError(400, "IllegalLocationConstraintException", "The specified location constraint is not valid for the region that this request was sent to.")
	errIncompleteBody         = newError(400, "IncompleteBody", "The request body terminated unexpectedly")
	errInternal               = newError(500, "InternalError", "We encountered an internal error. Please try again.")
	errInvalidAccessKey       = newError(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	errInvalidArgument        = newError(400, "InvalidArgument", "Invalid Argument")
	errInvalidBucketName      = newError(400, "InvalidBucketName", "The specified bucket is not valid.")
	errInvalidDigest          = newError(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
	errInvalidLocation        = newError(400, "InvalidLocationConstraint", "The specified location-constraint is not valid")
	errInvalidPart            = newError(400, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")
	errInvalidPartOrder       = newError(400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.")
	errInvalidRange           = newError(416, "InvalidRange", "The requested range is not satisfiable")
	errInvalidRequest         = newError(400, "InvalidRequest", "Invalid Request")
	errInvalidStorageClass    = newError(400, "InvalidStorageClass", "The storage class you specified is not valid")
	errInvalidTag             = newError(400, "InvalidTag", "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation.")
	errExpiredToken           = newError(400, "ExpiredToken", "The provided token has expired.")
	errInvalidToken           = newError(400, "InvalidToken", "The provided token is malformed or otherwise not valid.")
	errInvalidURI             = newError(400, "InvalidURI", "Couldn't parse the specified URI.")
	errKeyTooLong             = newError(400, "KeyTooLongError", "Your key is too long")
	errMalformedTrailer       = newError(400, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
	errMalformedXML           = newError(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	errMaxMessageLength       = newError(400, "MaxMessageLengthExceeded", "Your request was too big.")
	errMetadataTooLarge       = newError(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
	errMethodNotAllowed       = newError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	errMissingContentLength   = newError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	errMissingDate            = newError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
	errNoSuchBucket           = newError(404, "NoSuchBucket", "The specified bucket does not exist")
	errNoSuchKey              = newError(404, "NoSuchKey", "The specified key does not exist.")
	errNoSuchUpload           = newError(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
	errNoSuchVersion          = newError(404, "NoSuchVersion", "The specified version does not exist.")
	errNotImplemented         = newError(501, "NotImplemented", "A header or operation you provided implies functionality that is not implemented")
	errNotSigned              = newError(403, "AccessDenied", "There were headers present in the request which were not signed")
	errPreconditionFailed     = newError(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	errRequestTimeout         = newError(400, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.")
	errServiceUnavailable     = newError(503, "ServiceUnavailable", "Service is unable to handle request. Please try again.")
	errSignatureDoesNotMatch  = newError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	errSlowDown               = newError(503, "SlowDown", "Please reduce your request rate.").withHeader("Retry-After", "1")
	errTimeTooSkewed          = newError(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	errContentSHA256Mismatch  = newError(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	errStoreFull              = newError(503, "ServiceUnavailable", "The store is full: no drive has space left for this object.")
	errObjectLost             = newError(500, "InternalError", "The object is damaged beyond repair: more of its shards are lost than its profile covers. No wrong bytes are served.")
	errRegionWrong            = newError(400, "AuthorizationHeaderMalformed", "The authorization header is malformed")
	errQuota                  = newError(403, "QuotaExceeded", "The bucket would hold more bytes than its quota allows.")
	errInvalidChecksumRequest = newError(400, "InvalidRequest", "The checksum does not fit the algorithm or type of the upload.")
)

// The table from kinds to codes. The first that an error wraps wins: rules of package object come before the root kinds
// that they wrap. A full store has no code in S3's table; 503 ServiceUnavailable makes every SDK retry with backoff, and
// the message says why.
var kindTable = []struct {
	kind error
	api  *apiError
}{
	{object.ErrBucketName, errInvalidBucketName},
	{object.ErrKeyTooLong, errKeyTooLong},
	{object.ErrKey, errInvalidURI},
	{object.ErrEntityTooLarge, errEntityTooLarge},
	{object.ErrEntityTooSmall, errEntityTooSmall},
	{object.ErrInvalidPart, errInvalidPart},
	{object.ErrInvalidPartOrder, errInvalidPartOrder},
	{object.ErrPartNumber, errInvalidArgument.with("Part number must be an integer between 1 and 10000, inclusive")},
	{object.ErrNoSuchUpload, errNoSuchUpload},
	{object.ErrNoSuchBucket, errNoSuchBucket},
	{object.ErrNoLock, errNoLock},
	{object.ErrQuota, errQuota},
	{object.ErrWriteOffset, errWriteOffset},
	{object.ErrNoAppend, errInvalidRequest.with("What is appended is encrypted as the object is: copy the object onto itself to change that.")},
	{object.ErrTooManyParts, errTooManyParts},
	{object.ErrKeepsVersions, errInvalidRequest.with("This operation is not available in buckets that keep versions, or once did.")},
	{object.ErrLockState, errInvalidBucketState},
	{object.ErrRange, errInvalidRange},
	{object.ErrChecksumType, errInvalidChecksumRequest},
	{object.ErrBodyTooLong, errIncompleteBody},
	{object.ErrObjectSize, errInvalidRequest.with("The provided 'x-amz-mp-object-size' header value does not match what was computed.")},
	{io.ErrUnexpectedEOF, errIncompleteBody},
	{os.ErrDeadlineExceeded, errRequestTimeout},
	{cairn.ErrNotFound, errNoSuchKey}, // NoSuchVersion and NoSuchBucket: see notFound
	{cairn.ErrExists, errBucketExists},
	{cairn.ErrPrecondition, errPreconditionFailed},
	{cairn.ErrNotEmpty, errBucketNotEmpty},
	{cairn.ErrLost, errObjectLost},
	{cairn.ErrCorrupt, errObjectLost},
	{cairn.ErrForbidden, errAccessDenied},
	{cairn.ErrTooLarge, errEntityTooLarge},
	{cairn.ErrInvalid, errInvalidArgument},
	{cairn.ErrFull, errStoreFull},
	{cairn.ErrReadOnly, errServiceUnavailable},
	{cairn.ErrOverloaded, errSlowDown},
	{cairn.ErrUnavailable, errServiceUnavailable.withHeader("Retry-After", "1")},
	{cairn.ErrQuorum, errServiceUnavailable.withHeader("Retry-After", "1")},
	{cairn.ErrStaleEpoch, errServiceUnavailable.withHeader("Retry-After", "1")},
	{cairn.ErrCanceled, errServiceUnavailable},
	{context.Canceled, errServiceUnavailable},
	{context.DeadlineExceeded, errServiceUnavailable},
}

// translate finds what the client is told. ok is false for an error that no table knows.
func translate(err error) (api *apiError, ok bool) {
	if errors.As(err, &api) {
		return api, true
	}
	var sig *sigv4.Error
	if errors.As(err, &sig) {
		return signatureError(sig), true
	}
	var digest *object.DigestError
	if errors.As(err, &digest) {
		return digestError(digest), true
	}
	var locked *meta.LockError
	if errors.As(err, &locked) {
		return errObjectLocked, true
	}
	if api := encryptionError(err); api != nil {
		return api, true
	}
	for _, row := range kindTable {
		if errors.Is(err, row.kind) {
			return row.api.with("", partFields(err)...), true
		}
	}
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		return errEntityTooLarge, true
	}
	return errInternal, false
}

func signatureError(e *sigv4.Error) *apiError {
	switch e.Reason {
	case sigv4.Malformed:
		return errAuthHeaderMalformed.with(e.Detail)
	case sigv4.MalformedQuery:
		return errAuthQueryParams.with(e.Detail)
	case sigv4.Unsupported:
		return errInvalidRequest.with(e.Detail)
	case sigv4.MalformedV2:
		return errInvalidArgument.with(e.Detail, field{"ArgumentName", "Authorization"})
	case sigv4.BadDate:
		return errMissingDate
	case sigv4.Skewed:
		return errTimeTooSkewed
	case sigv4.Expired, sigv4.NotYetValid:
		return errAccessDenied.with(e.Detail)
	case sigv4.NotSigned:
		return errNotSigned.with("", field{"HeadersNotSigned", e.Detail})
	case sigv4.BadPayload:
		return errInvalidArgument.with(e.Detail, field{"ArgumentName", "x-amz-content-sha256"})
	case sigv4.WrongRegion:
		return errRegionWrong.with("The authorization header is malformed; " + e.Detail)
	case sigv4.BadTrailer:
		return errMalformedTrailer
	case sigv4.BadChunk, sigv4.WrongLength:
		return errIncompleteBody.with("The request body terminated unexpectedly: " + e.Detail)
	}
	return errSignatureDoesNotMatch.with("", field{"StringToSign", e.StringToSign}, field{"CanonicalRequest", e.Canonical})
}

func digestError(e *object.DigestError) *apiError {
	switch e.Name {
	case "x-amz-content-sha256":
		return errContentSHA256Mismatch.with("", field{"ClientComputedContentSHA256", hexString(e.Want)},
			field{"S3ComputedContentSHA256", hexString(e.Got)})
	case "Content-MD5":
		return errBadDigest.with("The Content-MD5 you specified did not match what we received.",
			field{"ExpectedDigest", base64String(e.Want)}, field{"CalculatedDigest", base64String(e.Got)})
	}
	return errBadDigest.with("The " + e.Name + " you specified did not match the calculated checksum.")
}

func partFields(err error) []field {
	var part *object.PartError
	if !errors.As(err, &part) {
		return nil
	}
	return []field{{"PartNumber", itoa(int64(part.Number))}, {"ETag", part.ETag}}
}
