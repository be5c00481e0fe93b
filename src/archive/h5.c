/* h5.c - HDF5's error messages and number types in cohort's words. Uses base. */
#include "archive/archive_private.h"

#include <string.h>

/* ---- errors ---------------------------------------------------------------------- */

/* Keeps the first, innermost, message of the stack that says something. */
static herr_t innermost(unsigned n, const H5E_error2_t *e, void *out) {
  (void)n;
  const char **text = out;
  if (e->desc && *e->desc) *text = e->desc;
  return *text != NULL;
}

int coh_h5_check(const coh_archive *a, int64_t value, const char *what, coh_error *err) {
  if (value >= 0) return COH_OK;
  const char *text = NULL;
  if (H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &text) < 0 || !text)
    text = "HDF5 does not say why";
  return coh_fail(err, a->writing ? COH_EIO : COH_EDATA, "cannot %s '%s': %s", what,
                  a->path, text);
}

/* ---- types ----------------------------------------------------------------------- */

size_t coh_type_size(coh_type t) {
  switch (t) {
  case COH_T_F32:
  case COH_T_I32:
  case COH_T_U32:
    return 4;
  case COH_T_F64:
  case COH_T_I64:
  case COH_T_U64:
    return 8;
  case COH_T_U8:
    return 1;
  }
  return 0;
}

hid_t coh_h5_stored(coh_type t) {
  switch (t) {
  case COH_T_F32:
    return H5T_IEEE_F32LE;
  case COH_T_F64:
    return H5T_IEEE_F64LE;
  case COH_T_I32:
    return H5T_STD_I32LE;
  case COH_T_I64:
    return H5T_STD_I64LE;
  case COH_T_U32:
    return H5T_STD_U32LE;
  case COH_T_U64:
    return H5T_STD_U64LE;
  case COH_T_U8:
    return H5T_STD_U8LE;
  }
  return -1;
}

hid_t coh_h5_native(coh_type t) {
  switch (t) {
  case COH_T_F32:
    return H5T_NATIVE_FLOAT;
  case COH_T_F64:
    return H5T_NATIVE_DOUBLE;
  case COH_T_I32:
    return H5T_NATIVE_INT32;
  case COH_T_I64:
    return H5T_NATIVE_INT64;
  case COH_T_U32:
    return H5T_NATIVE_UINT32;
  case COH_T_U64:
    return H5T_NATIVE_UINT64;
  case COH_T_U8:
    return H5T_NATIVE_UINT8;
  }
  return -1;
}

const char *coh_h5_name(coh_type t) {
  static const char *const names[] = {"float32", "float64", "int32", "int64",
                                      "uint32",  "uint64",  "uint8"};
  return names[t];
}

int coh_h5_type(hid_t type) {
  for (int t = COH_T_F32; t <= COH_T_U8; t++)
    if (H5Tequal(type, coh_h5_stored((coh_type)t)) > 0) return t;
  return -1;
}

bool coh_h5_same_kind(coh_type a, coh_type b) {
  const char *x = coh_h5_name(a), *y = coh_h5_name(b);
  return *x == *y; /* float, int, uint */
}

/* Called by HDF5 for a value that the new type cannot hold. A real number may become
 * infinite or lose digits, as a cast would have it; an integer may not change. */
static H5T_conv_ret_t refuse_range(H5T_conv_except_t except, hid_t from, hid_t to,
                                   void *value, void *converted, void *ctx) {
  (void)from, (void)value, (void)converted, (void)ctx;
  bool range = except == H5T_CONV_EXCEPT_RANGE_HI || except == H5T_CONV_EXCEPT_RANGE_LOW;
  return range && H5Tget_class(to) == H5T_INTEGER ? H5T_CONV_ABORT : H5T_CONV_UNHANDLED;
}

int coh_h5_convert(coh_type from, coh_type to, size_t n, void *values, coh_error *err) {
  if (from == to || n == 0) return COH_OK;
  hid_t plist = H5Pcreate(H5P_DATASET_XFER);
  bool done =
      plist >= 0 && H5Pset_type_conv_cb(plist, refuse_range, NULL) >= 0 &&
      H5Tconvert(coh_h5_native(from), coh_h5_native(to), n, values, NULL, plist) >= 0;
  if (plist >= 0) H5Pclose(plist);
  if (done) return COH_OK;
  return coh_fail(err, COH_EDATA, "a value of type %s does not fit %s", coh_h5_name(from),
                  coh_h5_name(to));
}
