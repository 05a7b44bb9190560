"""Explanations that are folded beside the attacks: the idea, the formulas, and the effect of the settings."""

from __future__ import annotations

import streamlit as st

_GENERATOR = r"""
**The generator.** A network with a single input neuron that is always 1 has only one output: an image, made of its
weights. Seen as a function of the weights $w$, it draws
"""
_GENERATOR_KINDS = r"""
*linear*: one weight a pixel. *deep*: $\sigma(W_2\,\mathrm{relu}(w_1 + b_1) + b_2)$ with 256 hidden neurons. The sigmoid
σ keeps every pixel a valid grey level. The classifier $C$ is frozen: only $w$ is trained, with Adam, one generator
$f_{ij}$ for each sample $x_i$ and class $j$.
"""
_BALANCE = """
The two pull in different directions. Where they balance lies an image that looks like the sample and is classified as
*j*. Of all iterates that are classified as *j*, the one nearest to the sample is kept.
"""
_ABLATION = """
**What was measured** (5 digits × 9 wrong targets on one MNIST network, 200 rounds, rate 0.05; yours will differ):

| Start | Class loss | Adam states | Success | Median ℓ2 | Why |
|---|---|---|---|---|---|
| random | squared error | separate | 100 % | 4.35 | the start is no digit: the class can win first |
| random | squared error | shared | 100 % | 3.51 | one state weighs both gradients by their size |
| random | cross-entropy | separate | 100 % | 4.34 | separate states rescale each gradient anyway |
| at the image | squared error | separate | 4.4 % | – | saturated: at p ≈ 0.9999 the gradient is 10⁻⁵ |
| at the image | cross-entropy | separate | 0 % | – | steps to the sample undo those to the class |
| at the image | cross-entropy | shared | 100 % | 4.93 | shared, the larger gradient decides |

More class steps (*b* above *a*) make success surer and the images less like the sample. The attack has no budget: judge
it by success *and* distance.
"""
_STRONG = r"""
**Strong mode.** The same two kinds of step, but each only where it is needed: an image that is classified as *j* takes
a step to the sample, one that is not takes a step to the class. Both directions are normalised, so neither loss can
drown the other, and the steps shrink: the image settles on the boundary of class *j* where that is nearest (the
switching subgradient method; the penalty's weight is found by itself). A clamp takes the sigmoid's place: at exact 0
and 1, most of MNIST's pixels, the sigmoid has no gradient. The nearest fooling image is kept and cut back by bisection.
Measured on 135 pairs of 30 MNIST digits and wrong targets: all fooled, mean ℓ2 2.27 with 203 model evaluations per
pair; DDN with as many 2.28; literal mode with a shared Adam state 3.20 with 601.
"""
_SPARSE = r"""
**One pixel moves the score by at most about $|J_j|\,u_j$**, where $u_j$ is its room: the way to 0 or to 1, whichever
helps. To cross a gap of $g$ one needs, to first order, the shortest list of the largest gains whose sum exceeds $g$:
the *linear estimate*. It is exact for a linear N (exchange any pixel of the list for another: the sum can only fall).
Without the box a single pixel would be enough, changed far enough. So the question only makes sense for valid images.

**Greedy.** N is curved, so the Jacobian is taken anew after each change; it proposes a shortlist, and the change that
really helps most is made. **Pruned.** In the end every change that is not needed is put back. Both are upper bounds: an
image might be fooled with fewer. Only trying every change proves what the fewest is.

**Few or small?** A network with hundreds of inputs adds up hundreds of tiny steps: ε·‖J‖₁ grows with the number of
pixels, so each pixel needs only a little, and the eye takes it for noise. Few pixels must change by much, and you see
them. The two attacks are the two ends of one frontier.
"""

_UNIVERSAL = r"""
**Gradient steps.** One $s$ is moved by mini-batches. The loss of an image is $\max(0, \mathrm{margin} + \kappa)$, so an
image that is fooled by more than κ adds nothing and the others decide. About ten gradients per image.

**UAP** (2017) takes image after image: where $x + s$ is still correctly classified, the smallest change that fools it
there (DeepFool) is added to $s$, and $s$ is projected onto the ball. It is slow; it is here for comparison.

**Linear programme.** For a set $S$ and a score $N$ with threshold τ: minimise $t$ with

$$d_i J_i \cdot s \ge c_i, \qquad |s_j| \le t, \qquad -\min_i x_{ij} \le s_j \le 1 - \max_i x_{ij} \text{ (valid)},$$

where $d_i$ is the sign that image $i$ needs, $J_i$ its Jacobian and $c_i$ what its score lacks. Any weights
$\lambda \ge 0$ of the images prove a lower bound, and the best ones reach the optimum; without a box it is

$$\varepsilon^* = \max_{\lambda \ge 0} \; \lambda \cdot c \; / \; \lVert \textstyle\sum_i \lambda_i d_i J_i \rVert_1.$$

For one image this is the dense formula $|\tau - N(x)| / \lVert J \rVert_1$; for one class of a linear model the largest
margin over $\lVert w \rVert_1$. Both classes of a linear model at once are impossible: the rows are $w$ and $-w$.
Clipping to [0, 1] breaks that symmetry, so the second stage may still succeed. With more classes an image has
one row, towards the nearest class, or for a target one for every other class.

**Why held-out images.** A change that was made from some images says little about others: only the rate on images
that it never saw is a measure of it.
"""


def generator() -> None:
    """Draw the explanation of the generator attack, folded."""
    with st.expander("How it works, and what to expect of the settings", icon=":material/school:"):
        left, right = st.columns(2)
        with left:
            st.markdown(_GENERATOR)
            st.latex(r"x = f(w) = \sigma(w) \in [0,1]^{C \times H \times W}")
            st.markdown(_GENERATOR_KINDS)
        with right:
            st.markdown("**A round is two kinds of step, in turns.** First *a* steps to the sample,")
            st.latex(r"\min_w \; \tfrac{1}{d}\,\lVert f(w) - x_i \rVert^2 ,")
            st.markdown("then *b* steps to the class, through $C$ (here the squared error to the one-hot):")
            st.latex(r"\min_w \; \tfrac{1}{K}\,\lVert \mathrm{softmax}\,C(f(w)) - e_j \rVert^2 .")
            st.markdown(_BALANCE)
        st.markdown(_ABLATION)
        st.markdown(_STRONG)


def sparse() -> None:
    """Draw the explanation of sparse perturbations, folded."""
    with st.expander("How sparse can it be, and why? The words on this page", icon=":material/school:"):
        st.markdown(_SPARSE)


_MASKS = r"""
**Why a few pixels are enough.** To first order, a change $\delta$ moves a score by $\langle J, \delta\rangle$. Inside a
mask $M$ that is at most $\sum_{j \in M} |J_j|\,u_j$, $u_j$ the room of pixel *j*: where a frame may use its full
contrast, a seventh of the image can outweigh the rest. Every other pixel stays as it is, to the last bit.

**Why the attack averages over transformations.** A pattern made for the still image uses single pixels exactly where
they are. If it moves by one pixel, it meets other weights of the network, and its effect is gone. So the attack
minimises the *mean* loss over random transformations *T* (shift, turn, size, light, printing noise), and draws a few
new ones in each step:
"""
_MASKS_LOSS = r"\min_{p \in [0,1]^M} \; \mathbb{E}_{T}\,\big[\,\mathrm{loss}\big(T(x, p)\big)\big]"
_MASKS_MORE = """
The result is a coarser pattern that works wherever it is. It is **measured under new transformations** that the attack
has not seen, and counts as a success if the model is fooled under at least half of them.

On one MNIST network (LeNet, glasses, 200 digits, shift 2 pixels, light ± 30 %, noise ± 0.1; yours will differ): made on
the still image the pattern succeeds under 16 % of the new transformations, averaged over 4 of them a step under 85 %.

*Expectation over transformation*: Athalye et al. 2018; glasses: Sharif et al. 2016; patches: Brown et al. 2017.
"""


def masks(*, expanded: bool = False) -> None:
    """Draw the explanation of attacks inside a mask, folded unless `expanded`."""
    with st.expander("Why it works", icon=":material/school:", expanded=expanded):
        st.markdown(_MASKS)
        st.latex(_MASKS_LOSS)
        st.markdown(_MASKS_MORE)


def universal() -> None:
    """Draw the explanation of universal perturbations, folded."""
    with st.expander("How it works, and what can be proven", icon=":material/school:"):
        st.markdown(_UNIVERSAL)


_LINEAR = r"""
**One image.** With margin $m$ and slope $v = w_y - w_t$ towards a rival $t$, a change $\delta$ costs
$\langle v,\delta\rangle \le \lVert\delta\rVert\,\lVert v\rVert_*$ (Hölder). So the worst loss in the ball and the
smallest change that reaches the rival are
"""
_LINEAR_MORE = r"""
The dual norm $*$ is ℓ2 for ℓ2, ℓ1 for ℓ∞, ℓ∞ for ℓ1. Inside the valid pixel range [0, 1] (**the box**) a pixel can
change by its room $u_j$ at most: ℓ∞ moves every pixel by $\min(\varepsilon, u_j)$, ℓ2 by $\min(\lambda |v_j|, u_j)$,
ℓ1 fills pixels by falling $|v_j|$, and ℓ0 takes the largest gains $|v_j| u_j$ first. Each is optimal, not a search.
With several classes the nearest rival decides, so the robust accuracy is exact.

**Training.** The inner maximum is gone, what is left is convex: $R_\varepsilon(w) = \frac1n\sum \ell(m_i -
\varepsilon\lVert w\rVert_*)$. For the hinge loss $H \le R_\varepsilon \le H + \varepsilon\lVert w\rVert_*$, and the
upper end, reached where every margin is at most 1, is a soft-margin SVM (for ℓ2). Robustness is regularisation here,
with ε in the units of the input. (Xu, Caramanis, Mannor 2009.)

**Why it matters beyond.** A ReLU network is linear between its kinks: FGSM is the exact answer for the linear piece it
stands on. What this page shows as a gap is, for a network, the gap between an attack and a proof.
"""


def linear() -> None:
    """Draw the explanation of linear models: duality, the box, training as regularisation, folded."""
    with st.expander("Why linear models can be solved exactly", icon=":material/school:"):
        st.markdown(_LINEAR)
        st.latex(
            r"\max_{\lVert\delta\rVert\le\varepsilon}\ell = \ell(m-\varepsilon\lVert v\rVert_*),\qquad"
            r"\min\lVert\delta\rVert = m/\lVert v\rVert_*"
        )
        st.markdown(_LINEAR_MORE)
