// The tiling structures of the high-level vector API. Host and kernel share one type per name; the
// namespaces AscendC::tiling and optiling and the global one all name it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace AscendC {
namespace tiling {

#define ASCSIM_TILING_FIELD(type, name) \
  type name = 0;                        \
  void set_##name(type v) { name = v; } \
  type get_##name() const { return name; }
#define ASCSIM_TILING_COMMON(type)                                     \
  size_t GetDataSize() const { return sizeof(type); }                  \
  void SaveToBuffer(void* to, size_t capacity) const {                 \
    if (capacity >= sizeof(type)) std::memcpy(to, this, sizeof(type)); \
  }

struct BatchNormTiling {
  ASCSIM_TILING_FIELD(uint32_t, originalBLength)
  ASCSIM_TILING_FIELD(uint32_t, meanVarSize)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, tmpBufSize)
  ASCSIM_TILING_FIELD(uint32_t, oneTmpSize)
  ASCSIM_TILING_FIELD(uint32_t, firstTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, secondTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, thirdTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputTailSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailPos)
  ASCSIM_TILING_FIELD(uint32_t, bshCurLength)
  ASCSIM_TILING_FIELD(uint32_t, shCurLength)
  ASCSIM_TILING_FIELD(float, firstDimValueBack)
  ASCSIM_TILING_FIELD(uint32_t, castHalfRepStride)
  ASCSIM_TILING_FIELD(uint32_t, shCurLengthBlockNum)
  ASCSIM_TILING_FIELD(uint32_t, castHalfOutRepStride)
  ASCSIM_TILING_COMMON(BatchNormTiling)
};
struct ConfusionTransposeTiling {
  ASCSIM_TILING_FIELD(uint32_t, param0)
  ASCSIM_TILING_FIELD(uint32_t, param1)
  ASCSIM_TILING_FIELD(uint32_t, param2)
  ASCSIM_TILING_FIELD(uint32_t, param3)
  ASCSIM_TILING_FIELD(uint32_t, param4)
  ASCSIM_TILING_FIELD(uint32_t, param5)
  ASCSIM_TILING_FIELD(uint32_t, param6)
  ASCSIM_TILING_FIELD(uint32_t, param7)
  ASCSIM_TILING_FIELD(uint32_t, param8)
  ASCSIM_TILING_FIELD(uint32_t, param9)
  ASCSIM_TILING_FIELD(uint32_t, param10)
  ASCSIM_TILING_FIELD(uint32_t, param11)
  ASCSIM_TILING_FIELD(uint32_t, param12)
  ASCSIM_TILING_FIELD(uint32_t, param13)
  ASCSIM_TILING_FIELD(uint32_t, param14)
  ASCSIM_TILING_FIELD(uint32_t, param15)
  ASCSIM_TILING_FIELD(uint32_t, param16)
  ASCSIM_TILING_FIELD(uint32_t, param17)
  ASCSIM_TILING_COMMON(ConfusionTransposeTiling)
};
struct DeepNormTiling {
  ASCSIM_TILING_FIELD(uint32_t, bLength)
  ASCSIM_TILING_FIELD(uint32_t, sLength)
  ASCSIM_TILING_FIELD(uint32_t, hLength)
  ASCSIM_TILING_FIELD(uint32_t, originalHLength)
  ASCSIM_TILING_FIELD(uint32_t, inputXSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarSize)
  ASCSIM_TILING_FIELD(uint32_t, numberOfTmpBuf)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpBufSize)
  ASCSIM_TILING_FIELD(uint32_t, oneTmpSize)
  ASCSIM_TILING_FIELD(uint32_t, firstTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, secondTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, thirdTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, meanVarRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailPos)
  ASCSIM_TILING_FIELD(uint32_t, bshCurLength)
  ASCSIM_TILING_FIELD(uint32_t, bsCurLength)
  ASCSIM_TILING_FIELD(float, lastDimValueBack)
  ASCSIM_TILING_COMMON(DeepNormTiling)
};
struct GroupNormTiling {
  ASCSIM_TILING_FIELD(uint32_t, n)
  ASCSIM_TILING_FIELD(uint32_t, c)
  ASCSIM_TILING_FIELD(uint32_t, hw)
  ASCSIM_TILING_FIELD(uint32_t, g)
  ASCSIM_TILING_FIELD(uint32_t, d)
  ASCSIM_TILING_FIELD(uint32_t, hwAlignSize)
  ASCSIM_TILING_FIELD(uint32_t, dhwAlignSize)
  ASCSIM_TILING_FIELD(uint32_t, inputXSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarSize)
  ASCSIM_TILING_FIELD(uint32_t, numberOfTmpBuf)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpBufSize)
  ASCSIM_TILING_FIELD(uint32_t, oneTmpSize)
  ASCSIM_TILING_FIELD(uint32_t, firstTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, secondTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, thirdTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, meanVarRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailPos)
  ASCSIM_TILING_FIELD(uint32_t, bshCurLength)
  ASCSIM_TILING_FIELD(uint32_t, bsCurLength)
  ASCSIM_TILING_FIELD(float, factor)
  ASCSIM_TILING_FIELD(bool, smallShape)
  ASCSIM_TILING_COMMON(GroupNormTiling)
};
struct LayerNormGradBetaTiling {
  ASCSIM_TILING_FIELD(uint32_t, stackBufferSize)
  ASCSIM_TILING_FIELD(uint32_t, bLength)
  ASCSIM_TILING_FIELD(uint32_t, sLength)
  ASCSIM_TILING_FIELD(uint32_t, hLength)
  ASCSIM_TILING_FIELD(uint32_t, originalHLength)
  ASCSIM_TILING_FIELD(uint32_t, bshLength)
  ASCSIM_TILING_FIELD(uint32_t, bsLength)
  ASCSIM_TILING_FIELD(uint32_t, oneCalSize)
  ASCSIM_TILING_FIELD(uint32_t, numberOfTmpBuf)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputTailSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, bsTailSize)
  ASCSIM_TILING_FIELD(uint32_t, bshCurLength)
  ASCSIM_TILING_FIELD(uint32_t, bsCurLength)
  ASCSIM_TILING_FIELD(uint32_t, gammaTempTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, betaTempTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, inputDyTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, resForGammaTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, reserved)
  ASCSIM_TILING_COMMON(LayerNormGradBetaTiling)
};
struct LayerNormGradTiling {
  ASCSIM_TILING_FIELD(uint32_t, stackBufferSize)
  ASCSIM_TILING_FIELD(uint32_t, bLength)
  ASCSIM_TILING_FIELD(uint32_t, sLength)
  ASCSIM_TILING_FIELD(uint32_t, hLength)
  ASCSIM_TILING_FIELD(uint32_t, originalHLength)
  ASCSIM_TILING_FIELD(uint32_t, oneCalSize)
  ASCSIM_TILING_FIELD(uint32_t, nohCalSize)
  ASCSIM_TILING_FIELD(uint32_t, loopNum)
  ASCSIM_TILING_FIELD(uint32_t, tailSize)
  ASCSIM_TILING_FIELD(uint32_t, nohTailSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensorBSHPos)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensorBSHSize)
  ASCSIM_TILING_FIELD(uint32_t, pdVarTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, pdVarTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, pdMeanTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, pdMeanTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, x1TensorPos)
  ASCSIM_TILING_FIELD(uint32_t, x1TensorSize)
  ASCSIM_TILING_FIELD(uint32_t, x2TensorPos)
  ASCSIM_TILING_FIELD(uint32_t, x2TensorSize)
  ASCSIM_TILING_FIELD(uint32_t, x3TensorPos)
  ASCSIM_TILING_FIELD(uint32_t, x3TensorSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensor1Pos)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensor1Size)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensor2Pos)
  ASCSIM_TILING_FIELD(uint32_t, tmpTensor2Size)
  ASCSIM_TILING_FIELD(uint32_t, lastDimValueBack)
  ASCSIM_TILING_FIELD(uint32_t, lastDimValueBackMulTwo)
  ASCSIM_TILING_COMMON(LayerNormGradTiling)
};
struct LayerNormSeparateTiling {
  ASCSIM_TILING_FIELD(uint32_t, aLength)
  ASCSIM_TILING_FIELD(uint32_t, rLength)
  ASCSIM_TILING_FIELD(uint32_t, halfAddRepeatTimes)
  ASCSIM_TILING_FIELD(uint32_t, rHeadLength)
  ASCSIM_TILING_FIELD(float, k2Rec)
  ASCSIM_TILING_FIELD(float, k2RRec)
  ASCSIM_TILING_FIELD(uint32_t, inputXSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarSize)
  ASCSIM_TILING_FIELD(uint32_t, numberOfTmpBuf)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpBufSize)
  ASCSIM_TILING_FIELD(uint32_t, oneTmpSize)
  ASCSIM_TILING_FIELD(uint32_t, firstTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, secondTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, thirdTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, meanVarRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailPos)
  ASCSIM_TILING_FIELD(uint32_t, arCurLength)
  ASCSIM_TILING_FIELD(uint32_t, aCurLength)
  ASCSIM_TILING_FIELD(float, rValueBack)
  ASCSIM_TILING_COMMON(LayerNormSeparateTiling)
};
struct LayerNormTiling {
  ASCSIM_TILING_FIELD(uint32_t, bLength)
  ASCSIM_TILING_FIELD(uint32_t, sLength)
  ASCSIM_TILING_FIELD(uint32_t, hLength)
  ASCSIM_TILING_FIELD(uint32_t, originalHLength)
  ASCSIM_TILING_FIELD(uint32_t, inputXSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarSize)
  ASCSIM_TILING_FIELD(uint32_t, numberOfTmpBuf)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, meanTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorPos)
  ASCSIM_TILING_FIELD(uint32_t, varianceTmpTensorSize)
  ASCSIM_TILING_FIELD(uint32_t, tmpBufSize)
  ASCSIM_TILING_FIELD(uint32_t, oneTmpSize)
  ASCSIM_TILING_FIELD(uint32_t, firstTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, secondTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, thirdTmpStartPos)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailSize)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, meanVarRoundSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailSize)
  ASCSIM_TILING_FIELD(uint32_t, meanVarTailPos)
  ASCSIM_TILING_FIELD(uint32_t, bshCurLength)
  ASCSIM_TILING_FIELD(uint32_t, bsCurLength)
  ASCSIM_TILING_FIELD(float, lastDimValueBack)
  ASCSIM_TILING_COMMON(LayerNormTiling)
};
struct LogSoftMaxTiling {
  ASCSIM_TILING_FIELD(uint32_t, srcM)
  ASCSIM_TILING_FIELD(uint32_t, srcK)
  ASCSIM_TILING_FIELD(uint32_t, srcSize)
  ASCSIM_TILING_FIELD(uint32_t, outMaxM)
  ASCSIM_TILING_FIELD(uint32_t, outMaxK)
  ASCSIM_TILING_FIELD(uint32_t, outMaxSize)
  ASCSIM_TILING_FIELD(uint32_t, splitM)
  ASCSIM_TILING_FIELD(uint32_t, splitK)
  ASCSIM_TILING_FIELD(uint32_t, splitSize)
  ASCSIM_TILING_FIELD(uint32_t, reduceM)
  ASCSIM_TILING_FIELD(uint32_t, reduceK)
  ASCSIM_TILING_FIELD(uint32_t, reduceSize)
  ASCSIM_TILING_FIELD(uint32_t, rangeM)
  ASCSIM_TILING_FIELD(uint32_t, tailM)
  ASCSIM_TILING_FIELD(uint32_t, tailSplitSize)
  ASCSIM_TILING_FIELD(uint32_t, tailReduceSize)
  ASCSIM_TILING_COMMON(LogSoftMaxTiling)
};
struct PadTiling {
  ASCSIM_TILING_FIELD(uint32_t, srcHeight)
  ASCSIM_TILING_FIELD(uint32_t, srcWidth)
  ASCSIM_TILING_FIELD(uint32_t, srcOriWidth)
  ASCSIM_TILING_FIELD(uint32_t, widthWithoutLastBlock)
  ASCSIM_TILING_FIELD(uint32_t, blocksPerRow)
  ASCSIM_TILING_FIELD(uint32_t, heightTiling)
  ASCSIM_TILING_FIELD(uint32_t, heightFractal)
  ASCSIM_TILING_FIELD(uint32_t, heightFractalTail)
  ASCSIM_TILING_FIELD(uint32_t, mainLoopOffset)
  ASCSIM_TILING_FIELD(uint32_t, tailBlockOffset)
  ASCSIM_TILING_FIELD(uint32_t, tmpBuffer1BlockNum)
  ASCSIM_TILING_FIELD(uint32_t, tmpBuffer1RowNum)
  ASCSIM_TILING_FIELD(uint32_t, tmpBuffer2Offset)
  ASCSIM_TILING_FIELD(uint32_t, widthTiling)
  ASCSIM_TILING_FIELD(uint32_t, widthFractal)
  ASCSIM_TILING_FIELD(uint32_t, widthFractalTail)
  ASCSIM_TILING_FIELD(uint32_t, widthFractalTailAlingned)
  ASCSIM_TILING_FIELD(uint32_t, brcbTiling)
  ASCSIM_TILING_FIELD(uint32_t, brcbFractal)
  ASCSIM_TILING_FIELD(uint32_t, brcbFractalTail)
  ASCSIM_TILING_FIELD(uint32_t, maxRepeatTimes)
  ASCSIM_TILING_FIELD(uint32_t, brcbTilingRepeatTimes)
  ASCSIM_TILING_FIELD(uint32_t, brcbTilingRepeatTimesTail)
  ASCSIM_TILING_FIELD(uint32_t, brcbFractalTailRepeatTimes)
  ASCSIM_TILING_FIELD(uint32_t, brcbFractalTailRepeatTimesTail)
  ASCSIM_TILING_FIELD(uint32_t, reserved)
  ASCSIM_TILING_COMMON(PadTiling)
};
struct RmsNormTiling {
  ASCSIM_TILING_FIELD(uint32_t, bLength)
  ASCSIM_TILING_FIELD(uint32_t, sLength)
  ASCSIM_TILING_FIELD(uint32_t, hLength)
  ASCSIM_TILING_FIELD(uint32_t, originalHLength)
  ASCSIM_TILING_FIELD(float, reciprocalOfHLength)
  ASCSIM_TILING_FIELD(uint32_t, mainBshLength)
  ASCSIM_TILING_FIELD(uint32_t, mainBsLength)
  ASCSIM_TILING_FIELD(uint32_t, mainBsLengthAlign)
  ASCSIM_TILING_FIELD(uint32_t, loopRound)
  ASCSIM_TILING_FIELD(uint32_t, inputTailPos)
  ASCSIM_TILING_FIELD(uint32_t, tailBshLength)
  ASCSIM_TILING_FIELD(uint32_t, tailBsLength)
  ASCSIM_TILING_COMMON(RmsNormTiling)
};
struct SoftMaxTiling {
  ASCSIM_TILING_FIELD(uint32_t, srcM)
  ASCSIM_TILING_FIELD(uint32_t, srcK)
  ASCSIM_TILING_FIELD(uint32_t, srcSize)
  ASCSIM_TILING_FIELD(uint32_t, outMaxM)
  ASCSIM_TILING_FIELD(uint32_t, outMaxK)
  ASCSIM_TILING_FIELD(uint32_t, outMaxSize)
  ASCSIM_TILING_FIELD(uint32_t, splitM)
  ASCSIM_TILING_FIELD(uint32_t, splitK)
  ASCSIM_TILING_FIELD(uint32_t, splitSize)
  ASCSIM_TILING_FIELD(uint32_t, reduceM)
  ASCSIM_TILING_FIELD(uint32_t, reduceK)
  ASCSIM_TILING_FIELD(uint32_t, reduceSize)
  ASCSIM_TILING_FIELD(uint32_t, rangeM)
  ASCSIM_TILING_FIELD(uint32_t, tailM)
  ASCSIM_TILING_FIELD(uint32_t, tailSplitSize)
  ASCSIM_TILING_FIELD(uint32_t, tailReduceSize)
  ASCSIM_TILING_COMMON(SoftMaxTiling)
};
struct TopkTiling {
  ASCSIM_TILING_FIELD(int32_t, tmpLocalSize)
  ASCSIM_TILING_FIELD(int32_t, allDataSize)
  ASCSIM_TILING_FIELD(int32_t, innerDataSize)
  ASCSIM_TILING_FIELD(uint32_t, sortRepeat)
  ASCSIM_TILING_FIELD(int32_t, mrgSortRepeat)
  ASCSIM_TILING_FIELD(int32_t, kAlignFourBytes)
  ASCSIM_TILING_FIELD(int32_t, kAlignTwoBytes)
  ASCSIM_TILING_FIELD(int32_t, maskOffset)
  ASCSIM_TILING_FIELD(int32_t, maskVreducev2FourBytes)
  ASCSIM_TILING_FIELD(int32_t, maskVreducev2TwoBytes)
  ASCSIM_TILING_FIELD(int32_t, mrgSortSrc1offset)
  ASCSIM_TILING_FIELD(int32_t, mrgSortSrc2offset)
  ASCSIM_TILING_FIELD(int32_t, mrgSortSrc3offset)
  ASCSIM_TILING_FIELD(int32_t, mrgSortTwoQueueSrc1Offset)
  ASCSIM_TILING_FIELD(int32_t, mrgFourQueueTailPara1)
  ASCSIM_TILING_FIELD(int32_t, mrgFourQueueTailPara2)
  ASCSIM_TILING_FIELD(int32_t, srcIndexOffset)
  ASCSIM_TILING_FIELD(uint32_t, copyUbToUbBlockCount)
  ASCSIM_TILING_FIELD(int32_t, topkMrgSrc1MaskSizeOffset)
  ASCSIM_TILING_FIELD(int32_t, topkNSmallSrcIndexOffset)
  ASCSIM_TILING_FIELD(uint32_t, vreduceValMask0)
  ASCSIM_TILING_FIELD(uint32_t, vreduceValMask1)
  ASCSIM_TILING_FIELD(uint32_t, vreduceIdxMask0)
  ASCSIM_TILING_FIELD(uint32_t, vreduceIdxMask1)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask0)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask1)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask2)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask3)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask4)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask5)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask6)
  ASCSIM_TILING_FIELD(uint16_t, vreducehalfValMask7)
  ASCSIM_TILING_COMMON(TopkTiling)
};
struct UnPadTiling {
  ASCSIM_TILING_FIELD(uint32_t, srcHeight)
  ASCSIM_TILING_FIELD(uint32_t, srcWidth)
  ASCSIM_TILING_FIELD(uint32_t, tmpBuffer1BlockNum)
  ASCSIM_TILING_FIELD(uint32_t, tmpBuffer1RowNum)
  ASCSIM_TILING_FIELD(uint32_t, tmpBuffer2Offset)
  ASCSIM_TILING_FIELD(uint32_t, widthTiling)
  ASCSIM_TILING_FIELD(uint32_t, widthFractal)
  ASCSIM_TILING_FIELD(uint32_t, widthFractalTail)
  ASCSIM_TILING_COMMON(UnPadTiling)
};

#undef ASCSIM_TILING_FIELD
#undef ASCSIM_TILING_COMMON

}  // namespace tiling
}  // namespace AscendC

namespace optiling {
using AscendC::tiling::BatchNormTiling;
using AscendC::tiling::ConfusionTransposeTiling;
using AscendC::tiling::DeepNormTiling;
using AscendC::tiling::GroupNormTiling;
using AscendC::tiling::LayerNormGradBetaTiling;
using AscendC::tiling::LayerNormGradTiling;
using AscendC::tiling::LayerNormSeparateTiling;
using AscendC::tiling::LayerNormTiling;
using AscendC::tiling::LogSoftMaxTiling;
using AscendC::tiling::PadTiling;
using AscendC::tiling::RmsNormTiling;
using AscendC::tiling::SoftMaxTiling;
using AscendC::tiling::TopkTiling;
using AscendC::tiling::UnPadTiling;
}  // namespace optiling
using AscendC::tiling::BatchNormTiling;
using AscendC::tiling::ConfusionTransposeTiling;
using AscendC::tiling::DeepNormTiling;
using AscendC::tiling::GroupNormTiling;
using AscendC::tiling::LayerNormGradBetaTiling;
using AscendC::tiling::LayerNormGradTiling;
using AscendC::tiling::LayerNormSeparateTiling;
using AscendC::tiling::LayerNormTiling;
using AscendC::tiling::LogSoftMaxTiling;
using AscendC::tiling::PadTiling;
using AscendC::tiling::RmsNormTiling;
using AscendC::tiling::SoftMaxTiling;
using AscendC::tiling::TopkTiling;
using AscendC::tiling::UnPadTiling;
