"""Slow, loop-by-loop reference of the losses of SCFS (ICCV 2023), numpy and float64 only.

Everything here happens AFTER the backbone: stage maps and logits come in as arrays, heads come in as callables, and
numbers come out. Nothing is batched, so that each line can be held against an equation of the paper.

Notation: B images, 2 global crops (g = 0, 1 here, 1, 2 in the paper), N local crops. Every stacked array is crop-major:
row `crop * B + image`. Presets: 'official' (means; searches the first global crop only) and 'paper' (the equations read
literally: sums over pairs and crops, mean over images; searches both global crops).
"""

import math

import numpy as np

PRESETS = ("official", "paper")
MODES = ("dino", "dino_ml", "scfs", "roi_crop")
EPS = 1e-12  # floor of a norm that is divided by: only matters for an all-zero vector


def _check(preset, mode=None):
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}")
    if mode is not None and mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}")


def _f64(array):
    return np.array(array, dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Softmax and cross entropy
# ---------------------------------------------------------------------------------------------------------------------
def softmax(logits, temperature=1.0, center=None):
    """Eq. 1 for one vector: exp((f_k - c_k) / tau) / sum_j exp((f_j - c_j) / tau); `center` None means c = 0."""
    logits = _f64(logits)
    size = len(logits)
    scaled = [(logits[k] - (0.0 if center is None else float(center[k]))) / temperature for k in range(size)]
    top = max(scaled)  # cancels in the ratio; keeps exp finite
    exps = [math.exp(value - top) for value in scaled]
    denominator = math.fsum(exps)
    return np.array([value / denominator for value in exps], dtype=np.float64)


def log_softmax(logits, temperature=1.0):
    """log of Eq. 1 for one vector: f_k / tau - log sum_j exp(f_j / tau)."""
    logits = _f64(logits)
    scaled = [value / temperature for value in logits]
    top = max(scaled)
    log_sum = top + math.log(math.fsum(math.exp(value - top) for value in scaled))
    return np.array([value - log_sum for value in scaled], dtype=np.float64)


def cross_entropy(target, log_prob):
    """One term of Eq. 2, 3 or 9: -sum_k P'_k log(P_k)."""
    if len(target) != len(log_prob):
        raise ValueError("target and log_prob differ in length")
    total_ = 0.0
    for k in range(len(target)):
        total_ -= float(target[k]) * float(log_prob[k])
    return total_


def _contrast(teacher_row, student_row, center, tau, tau_prime):
    """-P' log P of one teacher row (centred unless `center` is None) and one student row (Eq. 2, 3, 9)."""
    return cross_entropy(softmax(teacher_row, tau_prime, center), log_softmax(student_row, tau))


# ---------------------------------------------------------------------------------------------------------------------
# Feature search
# ---------------------------------------------------------------------------------------------------------------------
def query(feature_map):
    """Eq. 5, with the L2 norm of Eq. 6: mean over the positions of one map (C, h, w), divided by its norm: (C,)."""
    feature_map = _f64(feature_map)
    channels, height, width = feature_map.shape
    mean = []
    for c in range(channels):
        sum_ = 0.0
        for y in range(height):
            for x in range(width):
                sum_ += float(feature_map[c, y, x])
        mean.append(sum_ / (height * width))
    norm = max(math.sqrt(sum(value * value for value in mean)), EPS)
    return np.array([value / norm for value in mean], dtype=np.float64)


def attention(query_vector, teacher_map):
    """Eq. 6: cosine of the (unit) query (C,) with every position of one teacher map (C, H, W): (H, W). May be < 0."""
    query_vector, teacher_map = _f64(query_vector), _f64(teacher_map)
    channels, height, width = teacher_map.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            dot, square = 0.0, 0.0
            for c in range(channels):
                key = float(teacher_map[c, y, x])
                dot += float(query_vector[c]) * key
                square += key * key
            out[y, x] = dot / max(math.sqrt(square), EPS)
    return out


def searched_map(attention_map, teacher_map):
    """Eq. 7: F'_lg = A * F'_g, the un-normalised teacher map (C, H, W) weighted position by position by A (H, W)."""
    attention_map, teacher_map = _f64(attention_map), _f64(teacher_map)
    channels, height, width = teacher_map.shape
    out = np.zeros((channels, height, width))
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                out[c, y, x] = attention_map[y, x] * teacher_map[c, y, x]
    return out


def search(student_map, teacher_map):
    """Eq. 5, 6 and 7 in a row: one student map (C, h, w) searches one teacher map (C, H, W)."""
    return searched_map(attention(query(student_map), teacher_map), teacher_map)


# ---------------------------------------------------------------------------------------------------------------------
# RoIAlign (ablation 'ROI Crop' of Table 7)
# ---------------------------------------------------------------------------------------------------------------------
def bilinear(plane, y, x):
    """Value of one channel (H, W) at a real position; torchvision's border rules.

    More than one position outside (y < -1, y > H, and the same for x) gives 0; otherwise the position is clamped to
    [0, H-1] x [0, W-1].
    """
    height, width = plane.shape
    if y < -1.0 or y > height or x < -1.0 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    y_low, x_low = int(y), int(x)
    if y_low >= height - 1:
        y_low = y_high = height - 1
        y = float(y_low)
    else:
        y_high = y_low + 1
    if x_low >= width - 1:
        x_low = x_high = width - 1
        x = float(x_low)
    else:
        x_high = x_low + 1
    down, right = y - y_low, x - x_low
    return (
        (1.0 - down) * (1.0 - right) * float(plane[y_low, x_low])
        + (1.0 - down) * right * float(plane[y_low, x_high])
        + down * (1.0 - right) * float(plane[y_high, x_low])
        + down * right * float(plane[y_high, x_high])
    )


def roi_align(feature_map, box, spatial_scale, output_size=5):
    """RoIAlign of one box (x1, y1, x2, y2, pixels) on one map (C, H, W): (C, output_size, output_size).

    aligned=False: no half-pixel shift, RoI of at least 1 x 1 map position; adaptive sampling: ceil(bin size) samples
    per bin and axis, averaged.
    """
    feature_map = _f64(feature_map)
    channels = feature_map.shape[0]
    x1, y1, x2, y2 = (float(value) * spatial_scale for value in box)
    roi_width, roi_height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    bin_width, bin_height = roi_width / output_size, roi_height / output_size
    samples_x, samples_y = math.ceil(bin_width), math.ceil(bin_height)
    out = np.zeros((channels, output_size, output_size))
    for c in range(channels):
        for bin_y in range(output_size):
            for bin_x in range(output_size):
                sum_ = 0.0
                for sample_y in range(samples_y):
                    y = y1 + bin_y * bin_height + (sample_y + 0.5) * bin_height / samples_y
                    for sample_x in range(samples_x):
                        x = x1 + bin_x * bin_width + (sample_x + 0.5) * bin_width / samples_x
                        sum_ += bilinear(feature_map[c], y, x)
                out[c, bin_y, bin_x] = sum_ / (samples_y * samples_x)
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Data loss
# ---------------------------------------------------------------------------------------------------------------------
def data_loss(student_logits, teacher_logits, center, tau, tau_prime, B, N, preset):
    """Eq. 4 = Eq. 2 + Eq. 3: each centred teacher view against every OTHER student crop.

    student_logits ((2+N)*B, K), teacher_logits (2*B, K), center (K,). There are 2*(N+1) pairs; 'official': mean over
    pairs and images; 'paper': sum over pairs, mean over images.
    """
    _check(preset)
    student_logits, teacher_logits = _f64(student_logits), _f64(teacher_logits)
    if len(student_logits) != (2 + N) * B or len(teacher_logits) != 2 * B:
        raise ValueError("wrong number of rows of logits")
    sum_, pairs = 0.0, 0
    for g in range(2):
        for crop in range(2 + N):
            if crop == g:  # the same crop through student and teacher is not contrasted
                continue
            pairs += 1
            for b in range(B):
                sum_ += _contrast(teacher_logits[g * B + b], student_logits[crop * B + b], center, tau, tau_prime)
    if preset == "official":
        return sum_ / (pairs * B)
    return sum_ / B


# ---------------------------------------------------------------------------------------------------------------------
# Loss of one layer
# ---------------------------------------------------------------------------------------------------------------------
def searched_views(preset):
    """Global crops that are searched: the first ('official') or both, g = 1, 2 of Eq. 9 ('paper')."""
    _check(preset)
    return (0,) if preset == "official" else (0, 1)


def searched_maps(mode, preset, student_global, student_local, teacher_global, B, N, boxes=None, spatial_scale=None):
    """All maps F'_lg (Eq. 5-7) in the order in which they go, in ONE call, through the teacher's head (Eq. 8).

    scfs, N > 0:  row (n*G + j)*B + b: crop n of image b searches the j-th searched view; G = 1 or 2 searched views.
    scfs, N = 0:  row g*B + b: the student's global crop g searches the teacher's map of the other global crop.
    roi_crop:     rows as scfs with N > 0, the map being RoIAlign of boxes[g, n, b] on the teacher's map of view g.
    """
    rows = []
    if mode == "scfs" and N == 0:
        for g in range(2):
            other = 1 - g
            for b in range(B):
                rows.append(search(student_global[g * B + b], teacher_global[other * B + b]))
    elif mode == "scfs":
        for n in range(N):
            for g in searched_views(preset):
                for b in range(B):
                    rows.append(search(student_local[n * B + b], teacher_global[g * B + b]))
    elif mode == "roi_crop":
        for n in range(N):
            for g in searched_views(preset):
                for b in range(B):
                    rows.append(roi_align(teacher_global[g * B + b], boxes[g][n][b], spatial_scale))
    else:
        raise ValueError(f"mode {mode!r} searches nothing")
    return np.stack(rows)


def layer_outputs(
    mode,
    preset,
    student_head,
    teacher_head,
    student_global,
    student_local,
    teacher_global,
    B,
    N,
    boxes=None,
    spatial_scale=None,
):
    """Eq. 8: every head output of one layer, each head called on what belongs together in one call.

    Calls, in this order: student_head(global), student_head(local) if N > 0; teacher_head(global),
    teacher_head(searched) if the mode searches. A dict: student_global (2*B, D), student_local (N*B, D) or None,
    teacher_global (2*B, D), searched_maps and searched (rows as in `searched_maps`) or None.
    """
    _check(preset, mode)
    if mode == "dino":
        raise ValueError("mode 'dino' has no layer heads")
    if mode == "roi_crop" and (N == 0 or boxes is None or spatial_scale is None):
        raise ValueError("roi_crop needs local crops, their boxes and the spatial scale")
    student_global, teacher_global = _f64(student_global), _f64(teacher_global)
    if len(student_global) != 2 * B or len(teacher_global) != 2 * B:
        raise ValueError("wrong number of global maps")
    if N > 0:
        student_local = _f64(student_local)
        if len(student_local) != N * B:
            raise ValueError("wrong number of local maps")
    out = {"student_local": None, "searched_maps": None, "searched": None}
    out["student_global"] = _f64(student_head(student_global))
    if N > 0:
        out["student_local"] = _f64(student_head(student_local))
    out["teacher_global"] = _f64(teacher_head(teacher_global))
    if mode in ("scfs", "roi_crop"):
        maps = searched_maps(mode, preset, student_global, student_local, teacher_global, B, N, boxes, spatial_scale)
        out["searched_maps"] = maps
        out["searched"] = _f64(teacher_head(maps))
    return out


def global_term(preset, student_global, teacher_global, center, tau, tau_prime, B):
    """Eq. 2 on one layer's head outputs: centred teacher view 1 against the student's view 2, and the reverse.

    Mean over B; 'official': mean of the two pairs; 'paper': their sum.
    """
    sum_ = 0.0
    for g in range(2):
        other = 1 - g
        for b in range(B):
            sum_ += _contrast(teacher_global[g * B + b], student_global[other * B + b], center, tau, tau_prime)
    return sum_ / (2 * B) if preset == "official" else sum_ / B


def local_term_searched(preset, student_local, searched, tau, tau_prime, B, N, keep=None):
    """Eq. 9: searched output of crop n in view g (NOT centred) against the student's output of crop n.

    'official': mean over the kept (n, image) pairs of the one searched view (0 if none is kept);
    'paper': sum over g, n (the kept ones), divided by B. `keep` (G, N, B) is None for all, or the overlap of roi_crop.
    """
    views = searched_views(preset)
    sum_, count = 0.0, 0
    for n in range(N):
        for j, g in enumerate(views):
            for b in range(B):
                if keep is not None and not keep[g][n][b]:
                    continue
                count += 1
                sum_ += _contrast(
                    searched[(n * len(views) + j) * B + b], student_local[n * B + b], None, tau, tau_prime
                )
    if preset == "official":
        return sum_ / count if count else 0.0
    return sum_ / B


def local_term_without_multicrop(preset, student_global, searched, tau, tau_prime, B):
    """Eq. 9 with the global crops in the place of the local ones (Table 7, 'SCFS w/o MC', G_d 2 G_f).

    The map that global crop g found in the OTHER global crop is the (not centred) target of the student's output of
    crop g. 'official': mean over the two and B; 'paper': sum over the two, mean over B.
    """
    sum_ = 0.0
    for g in range(2):
        for b in range(B):
            sum_ += _contrast(searched[g * B + b], student_global[g * B + b], None, tau, tau_prime)
    return sum_ / (2 * B) if preset == "official" else sum_ / B


def local_term_direct(preset, student_local, teacher_global, center, tau, tau_prime, B, N):
    """Eq. 3 on one layer's head outputs (Table 7, 'DINO w ML'): both centred teacher views against each local crop.

    'official': mean over the 2*N pairs and B; 'paper': sum over the 2*N pairs, mean over B. 0 when N = 0.
    """
    if N == 0:
        return 0.0
    sum_ = 0.0
    for g in range(2):
        for n in range(N):
            for b in range(B):
                sum_ += _contrast(teacher_global[g * B + b], student_local[n * B + b], center, tau, tau_prime)
    return sum_ / (2 * N * B) if preset == "official" else sum_ / B


def layer_terms(
    mode,
    preset,
    student_head,
    teacher_head,
    student_global,
    student_local,
    teacher_global,
    center,
    tau,
    tau_prime,
    B,
    N,
    boxes=None,
    overlap=None,
    spatial_scale=None,
):
    """(global_term, local_term) of one layer, in mode 'scfs', 'roi_crop' or 'dino_ml' ('dino' has neither: zeros).

    student_global, teacher_global (2*B, C, H, W); student_local (N*B, C, h, w) (ignored when N = 0); heads map
    (n, C, H, W) to (n, D); center (D,) is this layer's own, before its update.
    For roi_crop: boxes (2, N, B, 4), overlap (2, N, B) (only view 0 is read in 'official').
    """
    _check(preset, mode)
    if mode == "dino":
        return 0.0, 0.0
    if mode == "roi_crop" and overlap is None:
        raise ValueError("roi_crop needs the overlap")
    out = layer_outputs(
        mode,
        preset,
        student_head,
        teacher_head,
        student_global,
        student_local,
        teacher_global,
        B,
        N,
        boxes,
        spatial_scale,
    )
    first = global_term(preset, out["student_global"], out["teacher_global"], center, tau, tau_prime, B)
    if mode == "dino_ml":
        second = local_term_direct(preset, out["student_local"], out["teacher_global"], center, tau, tau_prime, B, N)
    elif N == 0:
        second = local_term_without_multicrop(preset, out["student_global"], out["searched"], tau, tau_prime, B)
    else:
        keep = overlap if mode == "roi_crop" else None
        second = local_term_searched(preset, out["student_local"], out["searched"], tau, tau_prime, B, N, keep)
    return first, second


# ---------------------------------------------------------------------------------------------------------------------
# Total and centres
# ---------------------------------------------------------------------------------------------------------------------
def total(mode, preset, data, terms):
    """Eq. 10 and 11: data loss plus the losses of the layers; `terms` is [(global, local) per layer].

    'official': data + sum 0.5 * (global + local). 'paper': data + sum local; in mode 'dino_ml' data + sum
    (global + local). Mode 'dino': data alone.
    """
    _check(preset, mode)
    result = float(data)
    if mode == "dino":
        return result
    for global_, local in terms:
        if preset == "official":
            result += 0.5 * (global_ + local)
        elif mode == "dino_ml":
            result += global_ + local
        else:
            result += local
    return result


def updated_center(center, teacher_outputs, momentum):
    """DINO's centre: c <- m * c + (1 - m) * mean of the teacher's outputs of the global crops (rows of all ranks).

    No equation of the paper; DINO's (m = 0.9), and searched outputs do not enter (authors' code).
    """
    teacher_outputs = _f64(teacher_outputs)
    rows, size = teacher_outputs.shape
    out = np.zeros(size)
    for k in range(size):
        mean = math.fsum(float(teacher_outputs[r, k]) for r in range(rows)) / rows
        out[k] = momentum * float(center[k]) + (1.0 - momentum) * mean
    return out
